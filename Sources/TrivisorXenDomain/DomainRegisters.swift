import TrivisorVMM
import TrivisorX86

/// The registers of a domain's code, as the domain sees them. Segment registers are with what was loaded into them; an executor
/// whose code has the host's selectors knows of CS and SS which of Xen's flat segments they are, and of the others the bases.
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
  /// With all that was loaded into them.
  public var segments = SegmentRegisters(
    es: Self.null, cs: Self.code64, ss: Self.data64, ds: Self.null, fs: Self.null, gs: Self.null)

  private static let code64 = Selectors.segment(UInt16(Selectors.code64), .bits64, isCode: true)
  private static let data64 = Selectors.segment(UInt16(Selectors.data64), .bits64, isCode: false)
  private static let null = Segment(selector: 0, base: 0, limit: 0, attributes: 0, isUnusable: true)

  /// All zero, in 64-bit code; the other segment registers hold the null selector.
  public init() {}

  /// Of the code.
  var cs: Segment {
    get { segments.cs }
    set { segments.cs = newValue }
  }

  /// Of the stack.
  var ss: Segment {
    get { segments.ss }
    set { segments.ss = newValue }
  }

  /// Linear address that FS adds.
  public var fsBase: UInt64 {
    get { segments.fs.base }
    set { segments.fs.base = newValue }
  }

  /// Linear address that GS adds.
  public var gsBase: UInt64 {
    get { segments.gs.base }
    set { segments.gs.base = newValue }
  }

  /// Whether the code is 64-bit code.
  public var isIn64BitCode: Bool { SegmentAttributes(rawValue: segments.cs.attributes).contains(.long) }

  /// Code and stack in Xen's flat segments for 64-bit code, as SYSCALL and entries of the kernel leave them.
  public mutating func enterFlat64() { (segments.cs, segments.ss) = (Self.code64, Self.data64) }

  /// In two of Xen's flat segments.
  public mutating func setFlat(code: UInt64, stack: UInt64, _ layout: SharedLayout) {
    segments.cs = Selectors.segment(UInt16(truncatingIfNeeded: code), layout, isCode: true)
    segments.ss = Selectors.segment(UInt16(truncatingIfNeeded: stack), layout, isCode: false)
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
