/// A line of the table while it is being read.
struct Draft {
  var mnemonic: Word
  var classification: Classification
  var opcode: UInt8 = 0
  var opcodeCount = 1
  var hasCondition = false
  var hasBothForms = false
  var isVEXOnly = false
  var isUnaligned = false
  var feature = Feature.base
  var featureVEX = Feature.avx
  var feature256: Feature?
  var attributes: Form.Attributes = []
  var flagUse = FlagUse()
  var mask: UInt32 = 0
  var value: UInt32 = 0
  /// What only the VEX form must satisfy: legacy encodings have no L, and W is their operand size.
  var maskVEX: UInt32 = 0
  var valueVEX: UInt32 = 0
  var implicit: Word

  init(mnemonic: Word, classification: Classification) {
    self.mnemonic = mnemonic
    self.classification = classification
    implicit = Word(start: mnemonic.end, end: mnemonic.end)
    if mnemonic.hasPrefix("(v)") {
      hasBothForms = true
      self.mnemonic = mnemonic.dropFirst(3)
    }
  }

  mutating func require(_ mask: UInt32, _ value: UInt32) {
    self.mask |= mask
    self.value = self.value & ~mask | value
  }

  mutating func requireVEX(_ mask: UInt32, _ value: UInt32) {
    if isVEXOnly || hasBothForms {
      maskVEX |= mask
      valueVEX |= value
    } else {
      require(mask, value)
    }
  }

  /// `0F`, `50+r`, `70+cc`, `80/3`, `01/7.1`.
  mutating func readOpcode(_ word: Word) -> Bool {
    guard word.count >= 2, let high = Self.hex(word.start[0]), let low = Self.hex(word.start[1]) else { return false }
    opcode = high << 4 | low
    var rest = word.dropFirst(2)
    if rest.hasPrefix("+r") {
      opcodeCount = 8
    } else if rest.hasPrefix("+cc") {
      opcodeCount = 16
      hasCondition = true
      attributes.insert(.condition)
    } else if rest.first == UInt8(ascii: "/") {
      rest = rest.dropFirst()
      guard let reg = Self.hex(rest.first) else { return false }
      require(7 << Key.regShift, UInt32(reg) << Key.regShift)
      rest = rest.dropFirst()
      if rest.first == UInt8(ascii: ".") {
        guard let rm = Self.hex(rest.dropFirst().first) else { return false }
        require(7 | Key.modIs3, UInt32(rm) | Key.modIs3)
      }
    }
    return true
  }

  mutating func readPrefix(_ word: Word) -> Bool {
    if word.hasPrefix("-") { return true }
    if word.hasPrefix("nf") {
      require(Key.simdPrefixIsRepeat, 0)
      return true
    }
    let prefix: UInt32
    if word.hasPrefix("np") {
      prefix = 0
    } else if word.hasPrefix("66") {
      prefix = 1
    } else if word.hasPrefix("f3") {
      prefix = 2
    } else if word.hasPrefix("f2") {
      prefix = 3
    } else {
      return false
    }
    require(Key.simdPrefix, prefix << Key.simdPrefixShift)
    return true
  }

  private static func hex(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
