/// Where the last x87 instruction was, and the last operand of one in memory (AMD64 APM vol. 1, 6.2.6; vol. 2, 11.4.4).
struct X87Pointers: Equatable {
  /// Offsets in the segments.
  var instruction: UInt64 = 0, operand: UInt64 = 0
  var codeSelector: UInt16 = 0, dataSelector: UInt16 = 0
  /// The lower three bits of the opcode, and ModRM.
  var opcode: UInt16 = 0

  private static let definedOpcode: UInt16 = 0x7ff

  init() {}

  // MARK: FXSAVE and XSAVE

  func save(to area: UnsafeMutableRawPointer, isWide: Bool) {
    area.storeBytes(of: opcode, toByteOffset: X87Image.opcode, as: UInt16.self)
    let code = instruction.cut(to: 4) | UInt64(codeSelector) << 32
    let data = operand.cut(to: 4) | UInt64(dataSelector) << 32
    area.storeBytes(of: isWide ? instruction : code, toByteOffset: X87Image.instruction, as: UInt64.self)
    area.storeBytes(of: isWide ? operand : data, toByteOffset: X87Image.operand, as: UInt64.self)
  }

  /// What FXRSTOR and XRSTOR make of their area.
  /// - Parameter isWide: the pointers have 64 bits, and no selectors.
  init(area: UnsafeRawPointer, isWide: Bool) {
    opcode = area.loadUnaligned(fromByteOffset: X87Image.opcode, as: UInt16.self) & Self.definedOpcode
    instruction = area.loadUnaligned(fromByteOffset: X87Image.instruction, as: UInt64.self)
    operand = area.loadUnaligned(fromByteOffset: X87Image.operand, as: UInt64.self)
    guard !isWide else { return }
    codeSelector = UInt16(truncatingIfNeeded: instruction >> 32)
    dataSelector = UInt16(truncatingIfNeeded: operand >> 32)
    instruction = instruction.cut(to: 4)
    operand = operand.cut(to: 4)
  }

  // MARK: FNSTENV

  /// What is behind the tag word: eight words, or the first four of them where it is not `isWide`.
  /// - Parameter isReal: the format of real mode, which has linear addresses.
  func environment(isReal: Bool, isWide: Bool) -> InlineArray<8, UInt16> {
    func low(_ value: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: value) }
    func high(_ value: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: value >> 16) }
    guard isReal else {
      guard isWide else { return [low(instruction), codeSelector, low(operand), dataSelector, 0, 0, 0, 0] }
      return [
        low(instruction), high(instruction), codeSelector, opcode, low(operand), high(operand), dataSelector, .max,
      ]
    }
    let code = UInt64(codeSelector) << 4 &+ instruction
    let data = UInt64(dataSelector) << 4 &+ operand
    // Bits 16 and up stand four bits higher, above the opcode.
    let (codeTop, dataTop) = ((code >> 16) << 12, (data >> 16) << 12)
    guard isWide else { return [low(code), low(codeTop) | opcode, low(data), low(dataTop), 0, 0, 0, 0] }
    return [
      low(code), 0, low(codeTop) | opcode, high(codeTop) & 0xfff, low(data), 0, low(dataTop), high(dataTop) & 0xfff,
    ]
  }

  /// What FLDENV makes of 14 bytes, or of 28 where it is `isWide`.
  init(environment area: UnsafeRawPointer, isReal: Bool, isWide: Bool) {
    func word(_ offset: Int) -> UInt16 { area.loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
    func double(_ offset: Int) -> UInt64 { UInt64(area.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
    switch (isReal, isWide) {
    case (false, true):
      (instruction, operand) = (double(12), double(20))
      (codeSelector, opcode, dataSelector) = (word(16), word(18) & Self.definedOpcode, word(24))
    case (false, false):
      (instruction, operand) = (UInt64(word(6)), UInt64(word(10)))
      (codeSelector, dataSelector) = (word(8), word(12))
    case (true, true):
      instruction = double(12).cut(to: 2) | ((double(16) >> 12) << 16).cut(to: 4)
      operand = double(20).cut(to: 2) | ((double(24) >> 12) << 16).cut(to: 4)
      opcode = word(16) & Self.definedOpcode
    case (true, false):
      instruction = UInt64(word(6)) | UInt64(word(8) >> 12) << 16
      operand = UInt64(word(10)) | UInt64(word(12) >> 12) << 16
      opcode = word(8) & Self.definedOpcode
    }
  }
}
