// One guest thread of a sandbox: registers in, a trap out.
//
// The stub's signal handler leaves the kernel's signal frame where it is, in memory that we see, and tells us where. We
// copy what we need from it (the guest may be rewriting it at this moment), and write the registers that shall be next
// back to the same place. x87, SSE and AVX registers stay in the frame and are the guest's own business.

import TrivisorCStub
import Glibc
import TrivisorVMM

/// Runs guest code on one thread of a `SandboxProcess`. Used on one thread, except for `SandboxProcess.kick`.
public final class SandboxThread {
  private let process: SandboxProcess
  private let index: Int
  private let spin: Int
  /// Where in the area the current frame's `ucontext_t` is; checked.
  private var context = 0
  private var servedBefore = Served()
  private var dataSelector: UInt32 = 0

  /// - Parameters:
  ///   - index: below the process's `threadCount`, and no other object's.
  ///   - spin: how often to look for a trap before sleeping.
  /// - Throws: `SandboxEnded`.
  public init(_ process: SandboxProcess, index: Int, spin: Int = 0) throws(SandboxEnded) {
    self.process = process
    self.index = index
    self.spin = spin
    guard (0..<process.threadCount).contains(index) else { throw SandboxEnded("there is no guest thread \(index)") }
    context = try locateContext()
  }

  /// Runs guest code from `registers` until it traps, and leaves there what the guest was doing.
  /// - Parameters:
  ///   - deadline: when to interrupt it, in nanoseconds of `monotonicNanoseconds()`.
  ///   - patience: how many nanoseconds it may take to notice that, or `kick()`, before the process is destroyed: guest
  ///     code can block the host's signals by a forged frame.
  /// - Throws: `SandboxEnded` when the process died, before it ran or while it did; the registers are as they were.
  public func run(
    _ registers: inout UserRegisters, until deadline: UInt64 = .max, patience: UInt64 = 5_000_000_000
  ) throws(SandboxEnded) -> SandboxTrap {
    try checkProcess()
    store(registers)
    process.shared.giveTurn(index)
    if deadline != .max {
      let now = monotonicNanoseconds()
      let left = deadline > now ? deadline - now : 0
      if !process.waitForStop(index, nanoseconds: left, spin: spin) { process.kick(index) }
    }
    while !process.waitForStop(index, nanoseconds: Self.lookAround, spin: spin) {
      try checkProcess()
      if let kicked = process.shared.firstKick(index), monotonicNanoseconds() &- kicked > patience {
        throw destroy("guest code can't be interrupted, because it has blocked the host's signals")
      }
    }
    process.shared.forgetKicks(index)
    context = try locateContext()
    let frame = try signalFrame()
    var stopped = load()
    try resetProtectionKeys()
    var trap = frame.trap
    if frame.isUretprobe(stopped) {
      stopped.rax = SignalFrame.uretprobe
      trap = .systemCall(rip: stopped.rip)
    }
    if trap == .lostSystemCall { stopped.forgetWhatIsLost(bySYSENTER: HostProcessor.hasSYSENTER) }
    registers = stopped
    return trap
  }

  private func checkProcess() throws(SandboxEnded) {
    guard process.hasEnded else { return }
    throw process.ending ?? SandboxEnded("the sandboxed process does not answer")
  }

  private func destroy(_ reason: String) -> SandboxEnded {
    let reason = SandboxEnded(reason)
    process.destroy(reason)
    process.waitForEnd()
    return reason
  }

  /// How long to wait before it is looked whether a kick has gone unnoticed, in nanoseconds.
  private static let lookAround: UInt64 = 1_000_000_000

  private func signalFrame() throws(SandboxEnded) -> SignalFrame {
    let area = process.shared.area(index)
    let place = try offset(of: area.load(fromByteOffset: Int(CSTUB_AREA_SIGINFO), as: UInt64.self), count: 128)
    let information = area + place
    let frame = area + context
    return SignalFrame(
      signal: area.load(fromByteOffset: Int(CSTUB_AREA_SIGNAL), as: Int32.self),
      code: information.load(fromByteOffset: Information.code, as: Int32.self),
      address: information.load(fromByteOffset: Information.address, as: UInt64.self),
      architecture: information.load(fromByteOffset: Information.architecture, as: UInt32.self),
      vector: frame.load(fromByteOffset: SignalContext.vector, as: UInt64.self),
      errorCode: frame.load(fromByteOffset: SignalContext.errorCode, as: UInt64.self),
      rip: frame.load(fromByteOffset: SignalContext.rip, as: UInt64.self),
      cs: frame.load(fromByteOffset: SignalContext.selectors, as: UInt16.self),
      rax: frame.load(fromByteOffset: SignalContext.rax, as: UInt64.self),
      landingPad: process.shared.landingPad)
  }

  /// `siginfo_t` (Linux, include/uapi/asm-generic/siginfo.h), offsets in bytes.
  private enum Information {
    static let code = 8
    static let address = 16
    static let architecture = 28
  }

  /// Takes over x87, SSE and AVX registers from a thread of another process, where the same guest ran before.
  public func copyExtendedState(from other: SandboxThread) throws(SandboxEnded) {
    ExtendedState(try extendedState()).take(ExtendedState(try other.extendedState()))
  }

  /// x87, SSE and AVX registers, and the components of XSAVE's that there can be.
  /// - Throws: `SandboxEnded` when they are gone.
  public func savedExtendedState() throws(SandboxEnded) -> (components: UInt64, image: [UInt8]) {
    ExtendedState(try extendedState()).saved
  }

  /// Takes over what another thread, perhaps of another host, has saved.
  /// - Returns: `false` when this host has no such registers.
  public func restoreExtendedState(components: UInt64, image: [UInt8]) throws(SandboxEnded) -> Bool {
    ExtendedState(try extendedState()).take(components: components, image: image)
  }

  /// What of the guest's state guards the monitor's own accesses does not go on in the guest's next mode, whose kernel could
  /// not run: PKRU denies nothing again.
  private func resetProtectionKeys() throws(SandboxEnded) {
    guard HostProcessor.hasProtectionKeys else { return }
    ExtendedState(try extendedState()).resetProtectionKeys()
  }

  /// The XSAVE image in the current frame, the kernel's mark behind it included.
  private func extendedState() throws(SandboxEnded) -> UnsafeMutableRawBufferPointer {
    let area = process.shared.area(index)
    let address = area.load(fromByteOffset: context + SignalContext.extendedState, as: UInt64.self)
    let place = try offset(of: address, count: ExtendedState.legacySize)
    let size = Int(ExtendedState.size(area + place))
    _ = try offset(of: address, count: size)
    return UnsafeMutableRawBufferPointer(start: area + place, count: size)
  }

  /// Whether the process itself answers what it can, from the next run on, without a hand-over: SYSCALL for Xen's hypercall
  /// set_segment_base (FS, or GS as it is; an address of the lower half), and loads from its window.
  /// - Parameter windowLoads: so many of those, until one is handed over.
  public func setServes(_ serves: Bool, windowLoads: UInt32 = .max) {
    let area = process.shared.area(index)
    area.storeBytes(of: serves ? 1 : 0, toByteOffset: Int(CSTUB_AREA_SERVES), as: UInt32.self)
    let count = area.load(fromByteOffset: Int(CSTUB_AREA_SERVED_LOADS), as: UInt32.self)
    area.storeBytes(of: count &+ windowLoads, toByteOffset: Int(CSTUB_AREA_LAST_LOAD), as: UInt32.self)
  }

  /// What a process has answered by itself.
  public struct Served: Sendable, Equatable {
    /// Calls of set_segment_base.
    public var segmentBases: UInt32 = 0
    /// Loads from its window.
    public var loads: UInt32 = 0

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public init(segmentBases: UInt32 = 0, loads: UInt32 = 0) {
      self.segmentBases = segmentBases
      self.loads = loads
    }
  }

  /// How often that was done since it was asked last. Guest code can forge it.
  public func takeServed() -> Served {
    let area = process.shared.area(index)
    let now = Served(
      segmentBases: area.load(fromByteOffset: Int(CSTUB_AREA_SERVED), as: UInt32.self),
      loads: area.load(fromByteOffset: Int(CSTUB_AREA_SERVED_LOADS), as: UInt32.self))
    defer { servedBefore = now }
    return Served(
      segmentBases: now.segmentBases &- servedBefore.segmentBases, loads: now.loads &- servedBefore.loads)
  }

  /// Which data segment guest code has in DS, ES, FS and GS from each run on; 0 for what it has loaded itself.
  public func setDataSelector(_ selector: UInt16) { dataSelector = UInt32(selector) }

  private func locateContext() throws(SandboxEnded) -> Int {
    let area = process.shared.area(index)
    return try offset(
      of: area.load(fromByteOffset: Int(CSTUB_AREA_CONTEXT), as: UInt64.self), count: SignalContext.size)
  }

  /// A place in this thread's alternate stack, checked.
  private func offset(of address: UInt64, count: Int) throws(SandboxEnded) -> Int {
    let offset = address &- process.shared.address(index)
    guard address & 7 == 0, offset >= UInt64(CSTUB_AREA_STACK_BOTTOM), offset < UInt64(CSTUB_AREA_SIZE),
      UInt64(count) <= UInt64(CSTUB_AREA_SIZE) - offset
    else {
      throw destroy("the guest has forged its sandbox's frames")
    }
    return Int(offset)
  }

  private func load() -> UserRegisters {
    let area = process.shared.area(index)
    let general = area + context + SignalContext.general
    func word(_ position: Int) -> UInt64 { general.load(fromByteOffset: 8 * position, as: UInt64.self) }
    var registers = UserRegisters()
    registers.r8 = word(0)
    registers.r9 = word(1)
    registers.r10 = word(2)
    registers.r11 = word(3)
    registers.r12 = word(4)
    registers.r13 = word(5)
    registers.r14 = word(6)
    registers.r15 = word(7)
    registers.rdi = word(8)
    registers.rsi = word(9)
    registers.rbp = word(10)
    registers.rbx = word(11)
    registers.rdx = word(12)
    registers.rax = word(13)
    registers.rcx = word(14)
    registers.rsp = word(15)
    registers.rip = word(16)
    registers.rflags = word(17)
    let selectors = word(18)
    registers.cs = UInt16(truncatingIfNeeded: selectors)
    registers.ss = UInt16(truncatingIfNeeded: selectors >> 48)
    registers.fsBase = Self.canonical(area.load(fromByteOffset: Int(CSTUB_AREA_FS_BASE), as: UInt64.self))
    registers.gsBase = Self.canonical(area.load(fromByteOffset: Int(CSTUB_AREA_GS_BASE), as: UInt64.self))
    return registers
  }

  /// A base that no processor has is forged, and would be a fault in the handler.
  private static func canonical(_ base: UInt64) -> UInt64 {
    let upper = Int64(bitPattern: base) >> 47
    return upper == 0 || upper == -1 ? base : 0
  }

  private func store(_ registers: UserRegisters) {
    let area = process.shared.area(index)
    let general = (area + context + SignalContext.general).assumingMemoryBound(to: UInt64.self)
    general[0] = registers.r8
    general[1] = registers.r9
    general[2] = registers.r10
    general[3] = registers.r11
    general[4] = registers.r12
    general[5] = registers.r13
    general[6] = registers.r14
    general[7] = registers.r15
    general[8] = registers.rdi
    general[9] = registers.rsi
    general[10] = registers.rbp
    general[11] = registers.rbx
    general[12] = registers.rdx
    general[13] = registers.rax
    general[14] = registers.rcx
    general[15] = registers.rsp
    general[16] = registers.rip
    general[17] = registers.rflags
    // CS, GS, FS, SS; the kernel restores the first and the last. Whatever they say, privilege level 3 is all there is.
    general[18] = general[18] & 0x0000_ffff_ffff_0000 | UInt64(registers.cs) | UInt64(registers.ss) << 48
    // What guest code may have done to this thread by a forged frame does not last: no signal is blocked, and the
    // alternate stack is where it was.
    let frame = area + context
    frame.storeBytes(of: 0, toByteOffset: SignalContext.signalMask, as: UInt64.self)
    frame.storeBytes(
      of: process.shared.address(index) + UInt64(CSTUB_AREA_STACK_BOTTOM), toByteOffset: SignalContext.stack,
      as: UInt64.self)
    frame.storeBytes(of: SharedFrames.autodisarm, toByteOffset: SignalContext.stackFlags, as: UInt32.self)
    frame.storeBytes(
      of: UInt64(CSTUB_AREA_SIZE - CSTUB_AREA_STACK_BOTTOM), toByteOffset: SignalContext.stackSize, as: UInt64.self)
    area.storeBytes(of: dataSelector, toByteOffset: Int(CSTUB_AREA_DATA_SELECTOR), as: UInt32.self)
    area.storeBytes(of: registers.fsBase, toByteOffset: Int(CSTUB_AREA_FS_BASE), as: UInt64.self)
    area.storeBytes(of: registers.gsBase, toByteOffset: Int(CSTUB_AREA_GS_BASE), as: UInt64.self)
  }
}
