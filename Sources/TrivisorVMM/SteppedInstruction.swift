import TrivisorX86

/// An instruction that is stepped by the host's trap flag, as far as the flag means something to it.
public struct SteppedInstruction: Sendable, Equatable {
  /// What it does with flags, and whether it leads elsewhere.
  public enum Kind: Sendable, Equatable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case other, pushFlags, popFlags
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case interruptReturn, systemCall, systemReturn, systemEnter, systemExit
    /// INT, INT3 or INTO, and its vector.
    case interrupt(Int)
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public let kind: Kind
  /// Of the flags' image on the stack, in bytes.
  public let operandSize: Int

  /// - Parameters:
  ///   - code: CS.
  ///   - is64Bit: 64-bit code.
  ///   - byte: the instruction's bytes, by their place; `nil` where there are none.
  public init(code: TrivisorVMM.Segment, is64Bit: Bool, byte: (Int) -> UInt8?) {
    let isBig = is64Bit || SegmentAttributes(rawValue: code.attributes).contains(.big)
    var size = isBig ? 4 : 2
    var isWide = false
    var found: (Kind, Int)?
    // At most 15 bytes, of which prefixes can be 14 (AMD64 APM vol. 3, 1.2).
    for place in 0..<15 {
      guard let value = byte(place) else { break }
      switch value {
      case 0x66: size = isBig ? 2 : 4
      case 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65: break
      case 0x40...0x4f where is64Bit: isWide = value & 8 != 0
      default:
        let ofStack = is64Bit && size == 4 ? 8 : size
        switch (value, byte(place + 1)) {
        case (0x9c, _): found = (.pushFlags, ofStack)
        case (0x9d, _): found = (.popFlags, ofStack)
        case (0xcf, _): found = (.interruptReturn, isWide ? 8 : size)
        case (0xcc, _): found = (.interrupt(3), size)
        case (0xce, _) where !is64Bit: found = (.interrupt(4), size)
        case (0xcd, let vector?): found = (.interrupt(Int(vector)), size)
        case (0x0f, 0x05?): found = (.systemCall, size)
        case (0x0f, 0x07?): found = (.systemReturn, size)
        case (0x0f, 0x34?): found = (.systemEnter, size)
        case (0x0f, 0x35?): found = (.systemExit, size)
        default: found = (.other, size)
        }
      }
      if found != nil { break }
    }
    (kind, operandSize) = found ?? (.other, size)
  }
}
