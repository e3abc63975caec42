// One guest thread of a sandbox: registers in, a trap out.
//
// The stub's signal handler leaves the kernel's signal frame where it is, in memory that we see, and tells us where. We
// copy what we need from it (the guest may be rewriting it at this moment), and write the registers that shall be next
// back to the same place. x87, SSE and AVX registers stay in the frame and are the guest's own business.

import CStub
import Glibc
import VMM

/// Runs guest code on one thread of a `SandboxProcess`. Used on one thread, except for `SandboxProcess.kick`.
public final class SandboxThread {
  private let process: SandboxProcess
  private let index: Int
  private let spin: Int
  /// Where in the area the current frame's `ucontext_t` is; checked.
  private var context = 0
  private var servedBefore: UInt32 = 0

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
  /// - Parameter deadline: when to interrupt it, in nanoseconds of `monotonicNanoseconds()`.
  /// - Throws: `SandboxEnded` when the process died.
  public func run(_ registers: inout UserRegisters, until deadline: UInt64 = .max) throws(SandboxEnded) -> SandboxTrap {
    store(registers)
    process.shared.giveTurn(index)
    if deadline != .max {
      let now = monotonicNanoseconds()
      let left = deadline > now ? deadline - now : 0
      if !process.waitForStop(index, nanoseconds: left, spin: spin) { process.kick(index) }
    }
    guard process.waitForStop(index, nanoseconds: .max, spin: spin) else {
      throw process.ending ?? SandboxEnded("the sandboxed process does not answer")
    }
    let area = process.shared.area(index)
    context = try locateContext()
    let information = try offset(of: area.load(fromByteOffset: Int(CSTUB_AREA_SIGINFO), as: UInt64.self), count: 128)
    registers = load()
    let frame = area + context
    return trap(
      signal: area.load(fromByteOffset: Int(CSTUB_AREA_SIGNAL), as: Int32.self), information: area + information,
      vector: frame.load(fromByteOffset: Context.vector, as: UInt64.self),
      errorCode: frame.load(fromByteOffset: Context.errorCode, as: UInt64.self),
      faultAddress: frame.load(fromByteOffset: Context.faultAddress, as: UInt64.self), registers)
  }

  /// `ucontext_t` of x86-64 (Linux, arch/x86/include/uapi/asm/{ucontext,sigcontext}.h), offsets in bytes.
  private enum Context {
    static let general = 40
    static let rip = 168
    static let rflags = 176
    static let selectors = 184
    static let errorCode = 192
    static let vector = 200
    static let faultAddress = 216
    static let extendedState = 224
    static let signalMask = 296
    static let size = 304
  }

  /// Takes over x87, SSE and AVX registers from a thread of another process, where the same guest ran before.
  public func copyExtendedState(from other: SandboxThread) throws(SandboxEnded) {
    let source = try other.extendedState()
    let target = try extendedState()
    let count = min(source.count, target.count)
    if let from = source.baseAddress, let to = target.baseAddress { to.copyMemory(from: from, byteCount: count) }
  }

  /// The XSAVE image in the current frame, the kernel's mark behind it included (`struct _fpx_sw_bytes` at 464 tells its
  /// size: sigcontext.h).
  private func extendedState() throws(SandboxEnded) -> UnsafeMutableRawBufferPointer {
    let area = process.shared.area(index)
    let address = area.load(fromByteOffset: context + Context.extendedState, as: UInt64.self)
    let place = try offset(of: address, count: 512)
    let size = (area + place).load(fromByteOffset: 468, as: UInt32.self)
    _ = try offset(of: address, count: max(512, Int(size)))
    return UnsafeMutableRawBufferPointer(start: area + place, count: max(512, Int(size)))
  }

  /// Whether SYSCALL for Xen's hypercall set_segment_base (FS, or GS as it is; an address of the lower half) is carried out
  /// in the process itself, from the next run on: one instruction, without a hand-over.
  public func setServesSegmentBases(_ serves: Bool) {
    process.shared.area(index).storeBytes(
      of: serves ? 1 : 0, toByteOffset: Int(CSTUB_AREA_SERVES), as: UInt32.self)
  }

  /// How often that was done since it was asked last. Guest code can forge it.
  public func takeServedCount() -> UInt32 {
    let count = process.shared.area(index).load(fromByteOffset: Int(CSTUB_AREA_SERVED), as: UInt32.self)
    defer { servedBefore = count }
    return count &- servedBefore
  }

  /// Which data segment guest code has in DS, ES, FS and GS from each run on.
  public func setDataSelector(_ selector: UInt16) {
    process.shared.area(index).storeBytes(
      of: UInt32(selector), toByteOffset: Int(CSTUB_AREA_DATA_SELECTOR), as: UInt32.self)
  }

  private func locateContext() throws(SandboxEnded) -> Int {
    let area = process.shared.area(index)
    return try offset(of: area.load(fromByteOffset: Int(CSTUB_AREA_CONTEXT), as: UInt64.self), count: Context.size)
  }

  /// A place in this thread's alternate stack, checked.
  private func offset(of address: UInt64, count: Int) throws(SandboxEnded) -> Int {
    let offset = address &- process.shared.address(index)
    guard address & 7 == 0, offset >= UInt64(CSTUB_AREA_STACK_BOTTOM), offset < UInt64(CSTUB_AREA_SIZE),
      UInt64(count) <= UInt64(CSTUB_AREA_SIZE) - offset
    else {
      process.destroy()
      throw SandboxEnded("the guest has forged its sandbox's frames")
    }
    return Int(offset)
  }

  private func load() -> UserRegisters {
    let area = process.shared.area(index)
    let general = area + context + Context.general
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
    registers.fsBase = area.load(fromByteOffset: Int(CSTUB_AREA_FS_BASE), as: UInt64.self)
    registers.gsBase = area.load(fromByteOffset: Int(CSTUB_AREA_GS_BASE), as: UInt64.self)
    return registers
  }

  private func store(_ registers: UserRegisters) {
    let area = process.shared.area(index)
    let general = (area + context + Context.general).assumingMemoryBound(to: UInt64.self)
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
    // What the guest may have blocked by a forged frame is open again.
    (area + context).storeBytes(of: 0, toByteOffset: Context.signalMask, as: UInt64.self)
    area.storeBytes(of: registers.fsBase, toByteOffset: Int(CSTUB_AREA_FS_BASE), as: UInt64.self)
    area.storeBytes(of: registers.gsBase, toByteOffset: Int(CSTUB_AREA_GS_BASE), as: UInt64.self)
  }

  private func trap(
    signal: Int32, information: UnsafeMutableRawPointer, vector: UInt64, errorCode: UInt64, faultAddress: UInt64,
    _ registers: UserRegisters
  ) -> SandboxTrap {
    switch signal {
    case SIGSYS:
      // The address behind the instruction is si_call_addr; RIP would be wrong for a call into the vsyscall page, which
      // the kernel has already returned from.
      let address = information.load(fromByteOffset: 16, as: UInt64.self)
      let architecture = information.load(fromByteOffset: 28, as: UInt32.self)
      return architecture == 0xc000_003e
        ? .systemCall(rip: address) : .foreignSystemCall(architecture: architecture)
    case SIGUSR1:
      return .interrupted
    default:
      // With any other exception the host tells the CR2 of the thread's last page fault.
      return .exception(
        vector: UInt8(truncatingIfNeeded: vector), errorCode: errorCode, address: vector == 14 ? faultAddress : 0)
    }
  }
}
