import TrivisorX86

/// The registers of guest code that runs in a sandbox, as the kernel's signal frame has them, with the two bases that
/// it does not have. Segment selectors are the host's.
public struct UserRegisters: Sendable, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r8: UInt64 = 0, r9: UInt64 = 0, r10: UInt64 = 0, r11: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rdi: UInt64 = 0, rsi: UInt64 = 0, rbp: UInt64 = 0, rbx: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rdx: UInt64 = 0, rax: UInt64 = 0, rcx: UInt64 = 0, rsp: UInt64 = 0
  /// The next instruction.
  public var rip: UInt64 = 0
  /// Arithmetic flags, DF, TF, AC; the host keeps IF set and IOPL 0.
  public var rflags = RFLAGS.alwaysOne.rawValue | RFLAGS.interrupt.rawValue
  /// Linear address that FS adds.
  public var fsBase: UInt64 = 0
  /// Linear address that GS adds.
  public var gsBase: UInt64 = 0

  /// The host's selectors for the code and the stack: of its 64-bit segments, or of those that a process was made with
  /// (`SandboxProcess.codeSelector32`). Others are the guest's own loads.
  public var cs: UInt16 = 0x33
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var ss: UInt16 = 0x2b

  /// All zero.
  public init() {}

  /// After a system call that the host's kernel took for one of its 32-bit programs: what it could not keep is 0, and
  /// RBP is where it had put it (Linux, arch/x86/entry/entry_64_compat.S: the vDSO's convention keeps ESP in EBP for
  /// SYSENTER, and EBP in ECX for SYSCALL).
  mutating func forgetWhatIsLost(bySYSENTER: Bool) {
    rip = 0
    if rax == SignalFrame.badStack { rax = 0 }
    if bySYSENTER {
      rbp = rsp
      rsp = 0
    } else {
      rbp = rcx
      rcx = 0
    }
  }
}
