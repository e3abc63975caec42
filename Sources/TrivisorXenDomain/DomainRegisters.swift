import TrivisorX86

/// The registers of a domain's code, as the domain sees them: selectors are Xen's.
public struct DomainRegisters: Codable, Sendable, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rax: UInt64 = 0, rbx: UInt64 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rsi: UInt64 = 0, rdi: UInt64 = 0, rsp: UInt64 = 0, rbp: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r8: UInt64 = 0, r9: UInt64 = 0, r10: UInt64 = 0, r11: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0
  /// The next instruction.
  public var rip: UInt64 = 0
  /// Arithmetic flags, DF, TF, AC; IF is set, and IOPL 0, whatever the domain believes.
  public var rflags = RFLAGS.alwaysOne.rawValue | RFLAGS.interrupt.rawValue
  /// Linear address that FS adds.
  public var fsBase: UInt64 = 0
  /// Linear address that GS adds.
  public var gsBase: UInt64 = 0
  /// Of the code: one of Xen's flat segments (`Selectors`), or what else an executor has found there.
  public var cs = UInt16(truncatingIfNeeded: Selectors.code64)
  /// Of the stack.
  public var ss = UInt16(truncatingIfNeeded: Selectors.data64)

  /// All zero, in 64-bit code.
  public init() {}

  /// Code and stack in two of Xen's flat segments.
  mutating func setSegments(code: UInt64, stack: UInt64) {
    cs = UInt16(truncatingIfNeeded: code)
    ss = UInt16(truncatingIfNeeded: stack)
  }

  /// By the processor's numbers, 0 to 15.
  public subscript(general number: Int) -> UInt64 {
    get { general(number) }
    set { setGeneral(number, newValue) }
  }

  /// By the processor's numbers.
  func general(_ number: Int) -> UInt64 {
    switch number {
    case 0: rax
    case 1: rcx
    case 2: rdx
    case 3: rbx
    case 4: rsp
    case 5: rbp
    case 6: rsi
    case 7: rdi
    case 8: r8
    case 9: r9
    case 10: r10
    case 11: r11
    case 12: r12
    case 13: r13
    case 14: r14
    default: r15
    }
  }

  mutating func setGeneral(_ number: Int, _ value: UInt64) {
    switch number {
    case 0: rax = value
    case 1: rcx = value
    case 2: rdx = value
    case 3: rbx = value
    case 4: rsp = value
    case 5: rbp = value
    case 6: rsi = value
    case 7: rdi = value
    case 8: r8 = value
    case 9: r9 = value
    case 10: r10 = value
    case 11: r11 = value
    case 12: r12 = value
    case 13: r13 = value
    case 14: r14 = value
    default: r15 = value
    }
  }
}
