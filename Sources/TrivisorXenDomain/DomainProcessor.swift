import TrivisorVMM
import TrivisorX86

/// A virtual processor in its domain: registers, what its kernel has registered, and where it is.
///
/// Used on its own thread with the domain's lock held; others' processors change it only with the lock, too.
public final class DomainProcessor {
  /// Ring 3 is all there is, so the mode is the hypervisor's knowledge: SYSCALL is a hypercall in one and the guest's own
  /// system call in the other, and each has page tables of its own.
  enum Mode: String, Codable, Sendable {
    case kernel, user
  }

  /// What set_trap_table registers for a vector.
  struct TrapEntry: Codable, Sendable, Equatable {
    var flags: UInt8 = 0
    var codeSelector: UInt16 = 0
    var address: UInt64 = 0

    /// The least privileged level that may raise it by INT.
    var privilegeLevel: UInt8 { flags & 3 }
    var masksUpcalls: Bool { flags & 4 != 0 }
  }

  /// An address to call, and whether upcalls are masked then.
  struct Callback: Codable, Sendable, Equatable {
    var address: UInt64 = 0
    var masksUpcalls = false
  }

  /// Why it does not run guest code.
  enum Rest: Equatable {
    case none
    /// SCHEDOP_block: until an upcall is pending.
    case blocked
    /// SCHEDOP_poll: until one of the ports is pending, or the time has come.
    case polling(ports: [UInt32], deadline: UInt64)
  }

  unowned let domain: Domain
  let number: Int
  let doorbell: any DomainDoorbell
  /// What its kernel is told when it asks for CPUID.
  var identification = DomainIdentification.host
  /// As they are while guest code does not run.
  public internal(set) var registers = DomainRegisters()
  /// Its `struct vcpu_info`, in guest memory.
  var info: UnsafeMutableRawPointer
  var isInitialised = false
  var isUp = false
  /// Registers to begin with, when another processor has set it up.
  var start: DomainRegisters?

  /// Whether user mode has the kernel's page tables: of 32 bits, where the kernel is at level 1 and the tables themselves
  /// can tell it from user code.
  let sharesRoot: Bool
  var mode = Mode.kernel
  /// The selectors that user code of a 32-bit guest was entered with.
  var userSelectors: (code: UInt64, stack: UInt64) = (
    UInt64(Selectors.userCode32), UInt64(Selectors.userData32)
  )
  /// Machine frames of the roots; 0 for a user root that there is not.
  var kernelRoot: UInt64 = 0
  var userRoot: UInt64 = 0
  /// Whether the kernel root has a reference of its own beside the builder's pin.
  var kernelRootIsCounted = false
  /// Where the frame goes when user mode is left.
  var kernelStack: UInt64 = 0
  var traps = [TrapEntry](repeating: TrapEntry(), count: 256)
  var eventCallback = Callback()
  var failsafeCallback = Callback()
  var systemCallCallback = Callback()
  var systemEntryCallback = Callback()
  var systemCall32Callback = Callback()
  /// An NMI was sent; and whether one is in work, until the next iret.
  var hasPendingInterrupt = false
  var isInInterrupt = false
  /// PHYSDEVOP_set_iopl: from 1 on CLI and STI are taken in kernel mode, without effect.
  var ioPrivilege: UInt8 = 0
  /// PHYSDEVOP_set_iobitmap: where it is and how many ports it has; a clear bit permits a port.
  var ioBitmap: (address: UInt64, count: UInt32) = (0, 0)
  var isTaskSwitched = false
  var faultAddress: UInt64 = 0
  var control4: UInt64 = 0x620
  var debugRegisters = DebugRegisters()
  /// The GS base of the mode that it is not in.
  var otherGSBase: UInt64 = 0

  /// The guest's descriptor table (set_gdt), and its local one (MMUEXT_SET_LDT).
  var descriptorFrames: [UInt64] = []
  var descriptorCount: UInt64 = 0
  var localDescriptors: UInt64 = 0
  var localDescriptorCount: UInt64 = 0

  /// When VIRQ_TIMER is due, in the host's monotonic time.
  var timer: UInt64 = .max
  /// And how long after that again; 0 for once.
  var timerPeriod: UInt64 = 0
  /// Ports of per-processor virtual interrupts, by number.
  var virtualInterruptPorts = [UInt32](repeating: 0, count: virtualInterruptCount)
  static let virtualInterruptCount = 24
  var rest = Rest.none
  /// SCHEDOP_yield: others may use the host's processor first.
  var isYielding = false
  var runstate = RunState()
  /// VCPUOP_register_vcpu_time_memory_area: a copy of vcpu_time_info; 0 for none.
  var timeArea: UInt64 = 0

  /// With what the hypercall in work is to be executed again, if it is not done yet.
  var continuation: InlineArray<6, UInt64>?

  /// How often it ran guest code again after each cause.
  var trapCounts = TrapCounts()
  var modeSwitchCount: UInt64 = 0
  var upcallCount: UInt64 = 0
  /// What becomes of many loads from the machine-to-physical table.
  private(set) lazy var tableLoops = TableLoops(self)

  /// Of the page fault in work; kept, so that answering it allocates nothing.
  var runs: [PageRun] = []

  init(_ domain: Domain, number: Int, info: UnsafeMutableRawPointer, doorbell: any DomainDoorbell) {
    self.domain = domain
    self.number = number
    sharesRoot = domain.layout == .bits32
    self.info = info
    self.doorbell = doorbell
  }

  var layout: SharedLayout { domain.layout }

  var root: UInt64 { mode == .kernel || sharesRoot ? kernelRoot : userRoot }

  /// What guest code can reach now.
  var view: AddressView { AddressView(root: root, isUsers: sharesRoot && mode == .user) }

  /// The virtual interrupt flag, inverted.
  var upcallsAreMasked: Bool {
    get { info.load(fromByteOffset: 1, as: UInt8.self) != 0 }
    set { info.storeBytes(of: newValue ? 1 : 0, toByteOffset: 1, as: UInt8.self) }
  }

  var hasPendingUpcall: Bool { info.load(as: UInt8.self) != 0 }

  /// When it must look at the clock next.
  var deadline: UInt64 {
    // A periodic timer stands still while the processor rests, as Xen's does.
    let timer = rest != .none && timerPeriod != 0 ? .max : timer
    if case .polling(_, let deadline) = rest { return min(timer, deadline) }
    return timer
  }

  /// MMUEXT_NEW_BASEPTR.
  func setKernelRoot(_ root: UInt64) throws(XenError) {
    domain.memory.removeStaleTranslations()
    try domain.memory.tables.getRoot(root)
    if kernelRootIsCounted { domain.memory.tables.put(kernelRoot) }
    kernelRootIsCounted = true
    kernelRoot = root
  }

  /// To the other mode: its page tables and its GS base.
  func switchMode() {
    mode = mode == .kernel ? .user : .kernel
    modeSwitchCount &+= 1
    if layout == .bits64 { swap(&registers.gsBase, &otherGSBase) }
  }

  /// CALLBACKTYPE_nmi and HYPERVISOR_nmi_op: a handler like another, which masks upcalls.
  func setInterruptHandler(_ address: UInt64) throws(XenError) {
    guard LinearAddress.isCanonical(address) else { throw .invalid }
    let code = layout == .bits64 ? Selectors.code64 : Selectors.kernelCode32
    traps[Int(ExceptionVector.nonMaskableInterrupt.rawValue)] = .init(
      flags: 4, codeSelector: UInt16(truncatingIfNeeded: code), address: address)
  }

  /// Where the guest looks for CR2.
  func storeFaultAddress(_ address: UInt64) {
    switch layout {
    case .bits64: info.storeBytes(of: address, toByteOffset: layout.faultAddress, as: UInt64.self)
    case .bits32:
      info.storeBytes(
        of: UInt32(truncatingIfNeeded: address), toByteOffset: layout.faultAddress, as: UInt32.self)
    }
  }

  /// HYPERVISOR_fpu_taskswitch, CLTS and MOV to CR0: kept and told, but natively run code can't have #NM of it.
  func setTaskSwitched(_ isSet: Bool) {
    isTaskSwitched = isSet
    if isSet, !domain.abilities.contains(.taskSwitched) { domain.counts.add(notHonoured: .taskSwitched) }
  }

  /// HYPERVISOR_set_debugreg: kept, but native execution has no breakpoints to set.
  func setDebugRegister(_ number: UInt64, _ value: UInt64) throws(XenError) {
    try debugRegisters.set(number, value, control4: CR4(rawValue: control4))
    if number < 4, value != 0 { domain.counts.add(notHonoured: .breakpointAddresses) }
  }

  // MARK: Memory as its kernel sees it

  func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ address: UInt64, root: UInt64
  ) throws(XenError) -> Value {
    try domain.memory.read(type, address, root: root)
  }

  func write<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, to address: UInt64, root: UInt64
  ) throws(XenError) {
    try domain.memory.write(value, to: address, root: root)
  }

  /// Where an offset in CS is.
  func linear(_ offset: UInt64) -> UInt64 {
    registers.isIn64BitCode ? offset : (registers.cs.base &+ offset) & 0xffff_ffff
  }

  /// What is at RIP, as far as it can be read.
  func instructionBytes() -> InstructionBytes {
    var bytes = InstructionBytes()
    while bytes.count < InstructionBytes.limit,
      let byte = try? domain.memory.read(UInt8.self, linear(registers.rip &+ UInt64(bytes.count)), root: root)
    {
      bytes.append(byte)
    }
    return bytes
  }

  /// Before its first instruction: on the boot stack, RSI naming start_info.
  func begin(_ start: XenDomainStart) {
    registers = DomainRegisters()
    (registers.rip, registers.rsp, registers.rsi) = (start.entry, start.stack, start.startInfo)
    if layout == .bits32 { registers.setFlat(code: Selectors.kernelCode32, stack: Selectors.kernelData32, .bits32) }
  }

  func takeRegisters(of state: MachineState) {
    let from = state.general
    (registers.rax, registers.rbx, registers.rcx, registers.rdx) = (from.rax, from.rbx, from.rcx, from.rdx)
    (registers.rsi, registers.rdi, registers.rsp, registers.rbp) = (from.rsi, from.rdi, from.rsp, from.rbp)
    (registers.r8, registers.r9, registers.r10, registers.r11) = (from.r8, from.r9, from.r10, from.r11)
    (registers.r12, registers.r13, registers.r14, registers.r15) = (from.r12, from.r13, from.r14, from.r15)
    (registers.rip, registers.rflags) = (from.rip, from.rflags & Flags.visible | Flags.interrupt)
    (registers.fsBase, registers.gsBase) = (state.system.fs.base, state.system.gs.base)
  }

  /// For reports: what a machine's state has of it.
  func copyRegisters(to state: inout MachineState) {
    let from = registers
    (state.general.rax, state.general.rbx, state.general.rcx, state.general.rdx) = (
      from.rax, from.rbx, from.rcx, from.rdx
    )
    (state.general.rsi, state.general.rdi, state.general.rsp, state.general.rbp) = (
      from.rsi, from.rdi, from.rsp, from.rbp
    )
    (state.general.r8, state.general.r9, state.general.r10, state.general.r11) = (from.r8, from.r9, from.r10, from.r11)
    (state.general.r12, state.general.r13, state.general.r14, state.general.r15) = (
      from.r12, from.r13, from.r14, from.r15
    )
    (state.general.rip, state.general.rflags) = (from.rip, from.rflags)
    state.general.rflags =
      from.rflags & Flags.visible | RFLAGS.alwaysOne.rawValue
    // Under a hypervisor of 64 bits, whatever the domain's width.
    state.system.cr0 = InstructionEmulation.control0
    state.system.cr4 = control4
    state.system.efer = InstructionEmulation.extendedFeatures
    state.system.segments = from.segments
    state.system.cr3 = root << 12
  }

  /// Entries of its kernel.
  var delivery: TrapDelivery { TrapDelivery(processor: self) }
  var loads: SegmentLoads { SegmentLoads(processor: self) }

  func count(_ cause: TrapCounts.Cause, _ times: UInt64 = 1) { trapCounts.add(cause, times) }
}
