// The keyboard controller of a PC (Intel 8042), without a keyboard and without a mouse.
//
// It is here for its reset line and for the A20 gate, and because boot loaders and kernels look for it. So commands are
// answered at once and as a real controller with empty sockets does: the self-test passes, the mouse port's test fails,
// and a byte for the keyboard comes back as "resend" with the time-out bit. A driver that gets no answer at all would
// wait half a second each time.
//
// Source: IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".

import Synchronization
import TrivisorVMM

/// An i8042 with nothing plugged in.
///
/// Its two ports are not neighbours (0x60 and 0x64, with port 0x61 between), so each has a device of its own.
public final class KeyboardController: Sendable {
  /// Port 0x60: data to and from the controller.
  public static let conventionalDataPort: UInt16 = 0x60
  /// Port 0x64: status and commands.
  public static let conventionalCommandPort: UInt16 = 0x64
  /// The keyboard's interrupt by PC convention.
  public static let conventionalInterrupt = 1
  /// How many ports each of the two devices answers.
  public static let portCount: UInt16 = 1

  /// The device for the data port.
  public let dataPort: any PortDevice
  /// The device for the status and command port.
  public let commandPort: any PortDevice
  private let core: KeyboardControllerCore

  /// - Parameter interrupt: raised with each byte for the driver while the command byte allows it.
  public init(interrupt: InterruptLine? = nil) {
    core = KeyboardControllerCore(interrupt: interrupt)
    dataPort = DataPort(core)
    commandPort = CommandPort(core)
  }

  private final class DataPort: ByteWidePortDevice {
    private let core: KeyboardControllerCore
    init(_ core: KeyboardControllerCore) { self.core = core }
    func readByte(at offset: UInt16) -> UInt8 { core.readData() }
    func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect { core.writeData(value) }
  }

  private final class CommandPort: ByteWidePortDevice {
    private let core: KeyboardControllerCore
    init(_ core: KeyboardControllerCore) { self.core = core }
    func readByte(at offset: UInt16) -> UInt8 { core.readStatus() }
    func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect { core.writeCommand(value) }
  }
}

/// The controller behind the two ports.
private final class KeyboardControllerCore: Sendable {
  fileprivate static let subject = "keyboard controller"

  private enum Status {
    static let outputFull: UInt8 = 0x01
    static let systemFlag: UInt8 = 0x04
    static let lastWriteWasCommand: UInt8 = 0x08
    static let notLocked: UInt8 = 0x10
    static let fromAuxiliary: UInt8 = 0x20
    static let timeout: UInt8 = 0x40
  }

  private enum CommandByte {
    static let keyboardInterrupt: UInt8 = 0x01
    static let systemFlag: UInt8 = 0x04
    static let keyboardDisabled: UInt8 = 0x10
    static let auxiliaryDisabled: UInt8 = 0x20
  }

  private enum OutputPort {
    static let notReset: UInt8 = 0x01
    static let gateA20: UInt8 = 0x02
    static let keyboardBuffer: UInt8 = 0x10
    static let auxiliaryBuffer: UInt8 = 0x20
  }

  private struct State {
    /// The controller's 32 bytes of memory; byte 0 is the command byte.
    var memory = InlineArray<32, UInt8>(repeating: 0)
    var output: UInt8 = 0
    /// `outputFull`, `fromAuxiliary` and `timeout` of the status.
    var outputStatus: UInt8 = 0
    var lastWriteWasCommand = false
    /// A command that the next data byte belongs to.
    var pendingCommand: UInt8 = 0
    var gateA20 = true
    var isAsserted = false

    init() {
      memory[0] = CommandByte.keyboardDisabled | CommandByte.auxiliaryDisabled
    }

    mutating func put(_ byte: UInt8, flags: UInt8 = 0) {
      output = byte
      outputStatus = Status.outputFull | flags
    }
  }

  private let line: InterruptLine?
  private let state = Mutex(State())

  init(interrupt: InterruptLine?) { line = interrupt }

  private func updateLine(_ state: inout State) {
    let asserted =
      state.outputStatus & (Status.outputFull | Status.fromAuxiliary) == Status.outputFull
      && state.memory[0] & CommandByte.keyboardInterrupt != 0
    guard asserted != state.isAsserted else { return }
    state.isAsserted = asserted
    line?.set(asserted: asserted)
  }

  func readStatus() -> UInt8 {
    state.withLock { state in
      state.outputStatus | state.memory[0] & Status.systemFlag | Status.notLocked
        | (state.lastWriteWasCommand ? Status.lastWriteWasCommand : 0)
    }
  }

  func readData() -> UInt8 {
    state.withLock { state in
      state.outputStatus = 0
      updateLine(&state)
      return state.output
    }
  }

  func writeCommand(_ command: UInt8) -> DeviceEffect {
    state.withLock { state in
      state.lastWriteWasCommand = true
      state.pendingCommand = 0
      switch command {
      case 0x20...0x3f: state.put(state.memory[Int(command & 0x1f)])
      case 0x60...0x7f, 0xd1...0xd4: state.pendingCommand = command
      case 0xa7: state.memory[0] |= CommandByte.auxiliaryDisabled
      case 0xa8: state.memory[0] &= ~CommandByte.auxiliaryDisabled
      // The mouse port's clock line is stuck low: there is no mouse port.
      case 0xa9: state.put(0x01)
      case 0xaa:
        state.memory[0] |= CommandByte.systemFlag
        state.put(0x55)
      case 0xab: state.put(0x00)
      case 0xad: state.memory[0] |= CommandByte.keyboardDisabled
      case 0xae: state.memory[0] &= ~CommandByte.keyboardDisabled
      // Input port: not locked, no manufacturing jumper, colour display.
      case 0xc0: state.put(0xa0)
      case 0xd0: state.put(outputPort(state))
      case 0xdd: state.gateA20 = false
      case 0xdf: state.gateA20 = true
      // Pulses those lines of the output port whose bits are zero; the first of them is the processor's reset.
      case 0xf0...0xff where command & OutputPort.notReset == 0: return .stop(.reset)
      default: break
      }
      updateLine(&state)
      return .none
    }
  }

  func writeData(_ value: UInt8) -> DeviceEffect {
    state.withLock { state in
      let command = state.pendingCommand
      state.pendingCommand = 0
      state.lastWriteWasCommand = false
      switch command {
      case 0x60...0x7f: state.memory[Int(command & 0x1f)] = value
      case 0xd1:
        state.gateA20 = value & OutputPort.gateA20 != 0
        if value & OutputPort.notReset == 0 { return .stop(.reset) }
      case 0xd2: state.put(value)
      case 0xd3: state.put(value, flags: Status.fromAuxiliary)
      case 0xd4: state.put(0xfe, flags: Status.fromAuxiliary | Status.timeout)
      // A byte for the keyboard, which also switches its port on.
      default:
        state.memory[0] &= ~CommandByte.keyboardDisabled
        state.put(0xfe, flags: Status.timeout)
      }
      updateLine(&state)
      return .none
    }
  }

  func save() -> KeyboardController.Saved {
    state.withLock { state in
      KeyboardController.Saved(
        memory: state.memory.list, output: state.output, outputStatus: state.outputStatus,
        lastWriteWasCommand: state.lastWriteWasCommand, pendingCommand: state.pendingCommand, gateA20: state.gateA20)
    }
  }

  func restore(_ saved: KeyboardController.Saved) throws(RestoreFailure) {
    var restored = State()
    restored.memory = try fixedStorage(saved.memory, of: "its memory", Self.subject)
    try restoring(
      Self.subject, requires: saved.outputStatus & ~(Status.outputFull | Status.fromAuxiliary | Status.timeout) == 0,
      "the status of its output is \(saved.outputStatus)")
    restored.output = saved.output
    restored.outputStatus = saved.outputStatus
    restored.lastWriteWasCommand = saved.lastWriteWasCommand
    restored.pendingCommand = saved.pendingCommand
    restored.gateA20 = saved.gateA20
    state.withLock { state in
      state = restored
      updateLine(&state)
      line?.set(asserted: state.isAsserted)
    }
  }

  private func outputPort(_ state: State) -> UInt8 {
    var value = OutputPort.notReset
    // The gate can be set and read; what it would do is not done: address line 20 is always there, as the guests of
    // the last decades want it.
    if state.gateA20 { value |= OutputPort.gateA20 }
    if state.outputStatus & Status.outputFull != 0 {
      value |= state.outputStatus & Status.fromAuxiliary != 0 ? OutputPort.auxiliaryBuffer : OutputPort.keyboardBuffer
    }
    return value
  }
}

extension KeyboardController: Restorable {
  /// All of its registers.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var memory: [UInt8]
    var output: UInt8
    var outputStatus: UInt8
    var lastWriteWasCommand: Bool
    var pendingCommand: UInt8
    var gateA20: Bool
  }

  /// The controller behind both ports.
  public func save() -> Saved { core.save() }

  /// - Throws: `RestoreFailure` when its memory has another size, or its status bits that it never sets.
  public func restore(_ saved: Saved) throws(RestoreFailure) { try core.restore(saved) }
}
