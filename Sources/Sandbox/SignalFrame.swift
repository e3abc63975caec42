// What Linux says in a signal frame, and which event of the guest's that was.
//
// The signal and its code decide, not the trap number beside them: the kernel sends some signals without setting that
// number, and it then names an earlier event (a bad frame given to rt_sigreturn, an AMX instruction without leave, a bus
// lock).

import Glibc

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

  /// Exceptions by the manuals' numbers (AMD64 APM vol. 2, 8.2).
  private enum Vector {
    static let divideError: UInt8 = 0
    static let debug: UInt8 = 1
    static let breakpoint: UInt8 = 3
    static let overflow: UInt8 = 4
    static let bounds: UInt8 = 5
    static let invalidOpcode: UInt8 = 6
    static let coprocessorSegment: UInt8 = 9
    static let invalidTSS: UInt8 = 10
    static let notPresent: UInt8 = 11
    static let stack: UInt8 = 12
    static let generalProtection: UInt8 = 13
    static let pageFault: UInt8 = 14
    static let x87: UInt8 = 16
    static let alignment: UInt8 = 17
    static let simd: UInt8 = 19
    static let controlProtection: UInt8 = 21
  }

  private static let auditArchitecture64: UInt32 = 0xc000_003e
  /// Linux's selector of 32-bit code.
  private static let hostCode32: UInt16 = 0x23

  /// The kernel returns from SYSENTER, and from SYSCALL of 32-bit code, to a place in its vDSO, in 32-bit code: an
  /// address that 32-bit code can't be at.
  private var hasLostInstructionPointer: Bool { cs == Self.hostCode32 && rip >> 32 != 0 }

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
      if code == Code.misaligned { return exception(Vector.alignment, errorCode: 0) }
      if code == Code.kernel, let vector = told(.ofBusError) {
        return exception(vector, errorCode: errorCode)
      }
      return .memoryFailure(address: address)
    case SIGFPE:
      let vector = told(.ofArithmeticError) ?? Vector.x87
      return exception(vector, errorCode: 0)
    case SIGILL: return exception(Vector.invalidOpcode, errorCode: 0)
    case SIGTRAP: return exception(told(.ofTrap) ?? Vector.debug, errorCode: 0)
    default: return .interrupted
    }
  }

  private var segmentationFault: SandboxTrap {
    switch code {
    case Code.unmapped, Code.denied, Code.protectionKey:
      let told = UInt8(truncatingIfNeeded: vector) == Vector.pageFault ? errorCode : PageFaultCode.user
      let key = code == Code.protectionKey ? PageFaultCode.protectionKey : 0
      return .exception(
        vector: Vector.pageFault, errorCode: told & ~PageFaultCode.protectionKey | key, address: address)
    case Code.bounds: return exception(Vector.bounds, errorCode: 0)
    case Code.controlProtection: return exception(Vector.controlProtection, errorCode: errorCode)
    default:
      guard let vector = told(.ofSegmentationFault) else {
        return exception(Vector.generalProtection, errorCode: 0)
      }
      return exception(vector, errorCode: vector < Vector.invalidTSS ? 0 : errorCode)
    }
  }

  /// The trap's number, if it is one that comes with this signal.
  private func told(_ possible: VectorSet) -> UInt8? {
    vector < 32 && possible.contains(VectorSet(UInt8(vector))) ? UInt8(vector) : nil
  }

  private struct VectorSet: OptionSet {
    let rawValue: UInt32

    init(rawValue: UInt32) { self.rawValue = rawValue }

    init(_ vector: UInt8) { rawValue = 1 << vector }

    static let ofSegmentationFault: VectorSet = [
      VectorSet(Vector.overflow), VectorSet(Vector.bounds), VectorSet(Vector.invalidTSS), VectorSet(Vector.notPresent),
      VectorSet(Vector.stack), VectorSet(Vector.generalProtection),
    ]
    static let ofBusError: VectorSet = [VectorSet(Vector.notPresent), VectorSet(Vector.stack)]
    static let ofArithmeticError: VectorSet = [
      VectorSet(Vector.divideError), VectorSet(Vector.coprocessorSegment), VectorSet(Vector.x87),
      VectorSet(Vector.simd),
    ]
    static let ofTrap: VectorSet = [VectorSet(Vector.debug), VectorSet(Vector.breakpoint)]
  }

  /// Only a page fault has an address: with any other exception the host tells the CR2 of an earlier one.
  private func exception(_ vector: UInt8, errorCode: UInt64) -> SandboxTrap {
    .exception(vector: vector, errorCode: errorCode, address: 0)
  }
}

/// Bits of a page fault's error code (AMD64 APM vol. 2, 8.4.2).
public enum PageFaultCode {
  /// The page is there, and its protection forbids the access.
  public static let present: UInt64 = 1 << 0
  /// A store.
  public static let write: UInt64 = 1 << 1
  /// User mode.
  public static let user: UInt64 = 1 << 2
  /// An instruction fetch.
  public static let fetch: UInt64 = 1 << 4
  /// PKRU forbids it.
  public static let protectionKey: UInt64 = 1 << 5
}
