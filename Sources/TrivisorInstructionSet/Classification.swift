/// What an engine that runs guest code at the host's CPL 3 has to do with an instruction.
///
/// It is an allow-list: `innocuous` is what an entry of the opcode table calls `ok`, and what no entry matches is
/// `undefined`. So a gap in the table costs a guest an invalid-opcode exception; it can't let an instruction loose on
/// the host that nobody thought about.
public enum Classification: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  /// Raises #UD on a processor with the features this project announces, or has no entry.
  case undefined
  /// May keep its bytes, apart from re-encoding a ModRM memory operand or a register that is elsewhere: it computes the
  /// same at any privilege level, and reaches memory only through ModRM. A fault of its own is still possible. What
  /// stays to be watched: lanes that a mask leaves out (`conditionalRead`), bit strings, alignment, and in 16-bit code
  /// the prefix 66, which means the opposite in 64-bit code.
  case innocuous
  /// Unprivileged, but memory is reached otherwise than through ModRM: stack, string, direct-offset, XLAT, gather.
  case implicitMemory
  /// Unprivileged, but has no such encoding in 64-bit code.
  case legacyOnly
  case jump, conditionalJump, loop, call, nearReturn
  case indirectJump, indirectCall
  case farJump, farCall, farReturn, interruptReturn
  /// INT n, INT3, INT1, INTO.
  case softwareInterrupt
  /// SYSCALL, SYSENTER.
  case systemCall
  /// Faults at CPL 3 (or, with I/O, where IOPL and the I/O bitmap say so).
  case privileged
  /// Doesn't fault at CPL 3, but depends on or changes what belongs to the guest's system: selectors, descriptor
  /// tables, hidden flags, clocks, processor identity, extended state.
  case sensitive

  /// Ends a block of straight-line code.
  public var isControlTransfer: Bool {
    switch self {
    case .jump, .conditionalJump, .loop, .call, .nearReturn, .indirectJump, .indirectCall, .farJump, .farCall,
      .farReturn, .interruptReturn, .softwareInterrupt, .systemCall:
      true
    default: false
    }
  }

  /// The words that the table uses, in the order of the cases.
  static let words: StaticString =
    "ud ok mem old jmp jcc loop call ret ijmp icall farjmp farcall farret iret int sys priv sens"
}
