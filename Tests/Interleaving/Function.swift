/// Code that returns its number and version in EAX, and is changed by its owner.
struct Function {
  enum Kind: CaseIterable {
    /// The word of MOV EAX is stored.
    case immediate
    /// All eight bytes are.
    case whole
    /// The word of a jump is, to one of the leaves.
    case jump
    /// As `immediate`, on two pages.
    case straddling
    /// Where the moving page is at the time.
    case moving
  }

  let number: Int
  let kind: Kind
  /// The processor that changes it.
  let owner: Int
  let address: UInt32

  /// What is stored.
  var place: UInt32 { kind == .whole ? address : address + 1 }

  /// The same, seen elsewhere.
  static func alias(_ address: UInt32) -> UInt32 { address - Layout.functions + Layout.alias }

  private var tag: UInt32 { UInt32(number + 1) << 24 }

  /// What it returns.
  func value(_ version: UInt32) -> UInt32 { kind == .jump ? version : tag | version }

  /// - Returns: the version; `nil` if the value is none of its.
  func version(of value: UInt32) -> UInt32? {
    let version = value & 0xff_ffff
    return self.value(version) == value ? version : nil
  }

  private func leaf(_ version: UInt32) -> UInt32 { Layout.leaves + 8 * version }

  /// The word that makes it return a version; of `whole`, the middle one.
  func word(_ version: UInt32) -> UInt32 {
    kind == .jump ? leaf(version) &- (address + 5) : value(version)
  }

  /// Makes the word of the version in EAX; of `whole`, all of RAX.
  func addWord(to code: inout Code) {
    switch kind {
    case .immediate, .straddling, .moving: code.add([0x0d], tag)  // or
    case .jump:
      code.add(0xc1, 0xe0, 3)  // shl eax, 3
      code.add([0x05], Layout.leaves &- (address + 5))  // add
    case .whole:
      code.add([0x0d], tag)
      code.add(0x48, 0xc1, 0xe0, 8, 0x48, 0xb9)  // shl rax, 8; mov rcx, …
      code.add64(0x9090_c300_0000_00b8)
      code.add(0x48, 0x09, 0xc8)  // or rax, rcx
    }
  }

  /// In the beginning, as version 0.
  var code: [UInt8] {
    var code = Code(at: address)
    code.add([kind == .jump ? 0xe9 : 0xb8], word(0))
    code.add(0xc3, 0x90, 0x90)
    return code.bytes
  }

  /// A leaf.
  static func leafCode(_ version: UInt32) -> [UInt8] {
    var code = Code(at: 0)
    code.setEAX(version)
    code.add(0xc3, 0x90, 0x90)
    return code.bytes
  }
}
