// What Linux says in a signal frame, and which event of the guest's that was.
//
// The signal and its code decide, not the trap number beside them: the kernel sends some signals without setting that
// number, and it then names an earlier event (a bad frame given to rt_sigreturn, an AMX instruction without leave, a bus
// lock).

import Glibc
import TrivisorX86

/// A copy of what one signal frame says of the event (`siginfo_t`, and `struct sigcontext` of x86-64).
struct SignalFrame {
  /// The signal's number and `si_code`.
  var signal: Int32 = 0
  var code: Int32 = 0
  /// `si_addr` or, of SIGSYS, `si_call_addr`: the address behind the instruction.
  var address: UInt64 = 0
  /// `si_arch` of SIGSYS: AUDIT_ARCH_….
  var architecture: UInt32 = 0
  /// The last trap's number and error code, of whatever signal.
  var vector: UInt64 = 0
  var errorCode: UInt64 = 0
  /// Where the guest was, as the kernel believes.
  var rip: UInt64 = 0
  var cs: UInt16 = 0
  var rax: UInt64 = 0
  /// `SharedFrames.landingPad` of the process.
  var landingPad: UInt32?

  /// `si_code` values (Linux, include/uapi/asm-generic/siginfo.h).
  private enum Code {
    static let kernel: Int32 = 0x80  // SI_KERNEL
    static let unmapped: Int32 = 1  // SEGV_MAPERR
    static let denied: Int32 = 2  // SEGV_ACCERR
    static let bounds: Int32 = 3  // SEGV_BNDERR
    static let protectionKey: Int32 = 4  // SEGV_PKUERR
    static let controlProtection: Int32 = 10  // SEGV_CPERR
    static let misaligned: Int32 = 1  // BUS_ADRALN
  }

  private static let auditArchitecture64: UInt32 = 0xc000_003e
  /// Linux's selector of 32-bit code.
  private static let hostCode32: UInt16 = 0x23

  /// The kernel returns from SYSENTER, and from SYSCALL of 32-bit code, to a place in its vDSO, in 32-bit code: an
  /// address that 32-bit code can't be at. Where it could not read the caller's stack it tells no signal but goes there, with
  /// EFAULT, and the processor cuts the address to 32 bits: what is told is the fault of the fetch.
  private var hasLostInstructionPointer: Bool {
    guard cs == Self.hostCode32 else { return false }
    if rip >> 32 != 0 { return true }
    return signal == SIGSEGV && vector == UInt64(ExceptionVector.pageFault.rawValue)
      && errorCode & UInt64(PageFaultError.fetch.rawValue) != 0 && rip == landingPad.map(UInt64.init)
      && rax == Self.badStack
  }

  /// What RAX is after a SYSENTER or SYSCALL of 32-bit code's kind whose stack the kernel could not read: -EFAULT.
  static let badStack = UInt64(bitPattern: Int64(-EFAULT))

  /// Where the kernel leads to in this process from such a call, cut to 32 bits; of a frame that is one. `nil` where these
  /// instructions are none.
  var foundLandingPad: UInt32? { cs == Self.hostCode32 ? UInt32(truncatingIfNeeded: rip) : nil }

  /// Linux's system call uretprobe, which passes every filter (from 6.14 on) and sends SIGILL where no trampoline of the
  /// kernel's is: the only SIGILL of the kernel's own behind a SYSCALL, which leaves RIP in RCX, too.
  func isUretprobe(_ registers: UserRegisters) -> Bool {
    signal == SIGILL && code == Code.kernel && registers.rcx == registers.rip && registers.rax == .max
  }

  /// Its number.
  static let uretprobe: UInt64 = 335

  /// What happened to guest code.
  var trap: SandboxTrap {
    if signal != SIGUSR1, hasLostInstructionPointer { return .lostSystemCall }
    switch signal {
    case SIGSYS:
      return architecture == Self.auditArchitecture64
        ? .systemCall(rip: address) : .foreignSystemCall(architecture: architecture)
    case SIGSEGV: return segmentationFault
    case SIGBUS:
      if code == Code.misaligned { return exception(.alignmentCheck, errorCode: 0) }
      if code == Code.kernel, let vector = told(.ofBusError) {
        return exception(vector, errorCode: errorCode)
      }
      return .memoryFailure(address: address)
    case SIGFPE:
      let vector = told(.ofArithmeticError) ?? .x87FloatingPoint
      return exception(vector, errorCode: 0)
    case SIGILL: return exception(.invalidOpcode, errorCode: 0)
    case SIGTRAP: return exception(told(.ofTrap) ?? .debug, errorCode: 0)
    default: return .interrupted
    }
  }

  private var segmentationFault: SandboxTrap {
    switch code {
    case Code.unmapped, Code.denied, Code.protectionKey:
      var told: PageFaultError = .user
      if vector == UInt64(ExceptionVector.pageFault.rawValue) {
        told = PageFaultError(rawValue: UInt32(truncatingIfNeeded: errorCode))
      }
      told.remove(.protectionKey)
      if code == Code.protectionKey { told.insert(.protectionKey) }
      return .exception(
        vector: ExceptionVector.pageFault.rawValue, errorCode: UInt64(told.rawValue), address: address)
    case Code.bounds: return exception(.boundRange, errorCode: 0)
    case Code.controlProtection: return exception(.controlProtection, errorCode: errorCode)
    default:
      guard let vector = told(.ofSegmentationFault) else {
        return exception(.generalProtection, errorCode: 0)
      }
      return exception(vector, errorCode: vector.hasErrorCode ? errorCode : 0)
    }
  }

  /// The trap's number, if it is one that comes with this signal.
  private func told(_ possible: VectorSet) -> ExceptionVector? {
    guard vector < 32, let told = ExceptionVector(rawValue: UInt8(vector)), possible.contains(VectorSet(told)) else {
      return nil
    }
    return told
  }

  private struct VectorSet: OptionSet {
    let rawValue: UInt32

    init(rawValue: UInt32) { self.rawValue = rawValue }

    init(_ vector: ExceptionVector) { rawValue = 1 << UInt32(vector.rawValue) }

    static let ofSegmentationFault: VectorSet = [
      VectorSet(.overflow), VectorSet(.boundRange), VectorSet(.invalidTSS), VectorSet(.segmentNotPresent),
      VectorSet(.stack), VectorSet(.generalProtection),
    ]
    static let ofBusError: VectorSet = [VectorSet(.segmentNotPresent), VectorSet(.stack)]
    static let ofArithmeticError: VectorSet = [
      VectorSet(.divideError), VectorSet(.coprocessorSegmentOverrun), VectorSet(.x87FloatingPoint),
      VectorSet(.simdFloatingPoint),
    ]
    static let ofTrap: VectorSet = [VectorSet(.debug), VectorSet(.breakpoint)]
  }

  /// Only a page fault has an address: with any other exception the host tells the CR2 of an earlier one.
  private func exception(_ vector: ExceptionVector, errorCode: UInt64) -> SandboxTrap {
    .exception(vector: vector.rawValue, errorCode: errorCode, address: 0)
  }
}
