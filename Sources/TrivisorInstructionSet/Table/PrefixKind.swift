/// Which bytes are prefixes: twice 256 entries, first for 16- and 32-bit code, then for 64-bit code.
enum PrefixKind: UInt8, BitwiseCopyable {
  case none, legacy, rex

  static let table: [PrefixKind] = (0..<512).map { index in
    switch UInt8(truncatingIfNeeded: index) {
    case 0x26, 0x2e, 0x36, 0x3e, 0x64...0x67, 0xf0, 0xf2, 0xf3: .legacy
    case 0x40...0x4f where index >= 256: .rex
    default: .none
    }
  }
}
