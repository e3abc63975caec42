import TrivisorVMM

/// What the ACPI tables tell a guest about its machine.
///
/// Full ACPI, not the hardware-reduced kind: a kernel then keeps the legacy interrupt chips, which our serial port and
/// timer use, and the fixed registers cost it a dozen accesses. No power management timer is announced, because kernels
/// test one for milliseconds; no keyboard controller and no VGA, so that nobody looks for them; no embedded controller,
/// no general-purpose events, no processor objects.
public struct ACPIMachine: Sendable {
  /// A serial port of the 16550 kind.
  public struct SerialPort: Sendable {
    /// Its first of eight ports.
    public var base: UInt16
    /// Its ISA interrupt, 0–15.
    public var interrupt: Int

    /// Takes both.
    public init(base: UInt16, interrupt: Int) {
      self.base = base
      self.interrupt = interrupt
    }
  }

  /// A virtio device over MMIO.
  public struct VirtioDevice: Sendable {
    /// Its registers' first address, below 4 GiB.
    public var base: UInt32
    /// Bytes of registers.
    public var size: UInt32
    /// The global system interrupt that it pulses.
    public var interrupt: Int

    /// - Parameter interrupt: may be another device's, too: it is announced as shared then.
    public init(base: UInt32, size: UInt32, interrupt: Int) {
      self.base = base
      self.size = size
      self.interrupt = interrupt
    }
  }

  /// A PCI host bridge with one bus, whose functions' configuration is in memory, too.
  public struct PCIHost: Sendable {
    /// Where a function's pin is wired to.
    public struct Interrupt: Sendable {
      /// On the bus.
      public var device: Int
      /// 1 for INTA# to 4.
      public var pin: UInt8
      /// The global system interrupt, level-triggered.
      public var interrupt: Int

      /// Takes all three.
      public init(device: Int, pin: UInt8, interrupt: Int) {
        self.device = device
        self.pin = pin
        self.interrupt = interrupt
      }
    }

    /// Where the memory that leads to the functions' configuration begins.
    public var configurationBase: UInt64
    /// The memory in which functions answer, below 4 GiB.
    public var windowBase: UInt32
    /// Its length in bytes.
    public var windowSize: UInt32
    /// Of the devices that there are.
    public var interrupts: [Interrupt] = []

    /// A bus without devices.
    public init(configurationBase: UInt64, windowBase: UInt32, windowSize: UInt32) {
      self.configurationBase = configurationBase
      self.windowBase = windowBase
      self.windowSize = windowSize
    }
  }

  /// Processors whose local APIC identifiers are 0 and up, at most 255.
  public var processorCount: Int
  /// COM1 and so on.
  public var serialPorts: [SerialPort] = []
  /// In the order in which kernels shall find them: the first disk is the first block device.
  public var virtioDevices: [VirtioDevice] = []
  /// The PCI bus, if there is one.
  public var pciHost: PCIHost?
  /// Where `PowerManagementPorts` is.
  public var powerManagementPort = PowerManagementPorts.conventionalPort
  /// The line that `PowerManagementPorts` drives: level-triggered, active high.
  public var systemControlInterrupt = PowerManagementPorts.conventionalInterrupt
  /// Where `ResetControl` is.
  public var resetPort = ResetControl.conventionalPort
  /// Where `PVPanic` is, if there is one.
  public var panicPort: UInt16? = PVPanic.conventionalPort
  /// Whether there is a `CMOSClock`.
  public var hasClock = true
  /// The I/O APIC input that the timer's interrupt 0 is wired to: 0 with KVM's default routes, 2 on a PC.
  public var timerInput = 0

  /// A machine with nothing but processors and the fixed registers.
  public init(processorCount: Int) {
    self.processorCount = processorCount
  }
}
