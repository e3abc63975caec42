import TrivisorInstructionSet

/// Random numbers by a seed, the same on every machine (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}

/// One test: a state to start from, and code for it.
struct LegacyCodeCase {
  var state = LegacyCodeState()
  var code: [UInt8] = []
  /// The flags that the manual leaves undefined.
  var undefinedFlags: UInt64 = 0
  var mnemonics: [String] = []
  /// What lies at a linear address.
  var bytes: (place: UInt64, values: [UInt8]) = (0, [])
}

/// Makes tests in one mode.
struct LegacyCodeGenerator {
  let mode: CPUMode
  let announces: (Feature) -> Bool
  var random: SeededGenerator
  private let decoder: Decoder
  private var selectors: [UInt16] = []

  init(_ mode: CPUMode, seed: UInt64, announces: @escaping (Feature) -> Bool) {
    self.mode = mode
    self.announces = announces
    random = SeededGenerator(state: seed)
    decoder = Decoder(mode: mode)
  }

  private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
  private mutating func byte() -> UInt8 { UInt8.random(in: 0...255, using: &random) }

  mutating func next() -> LegacyCodeCase {
    var test = LegacyCodeCase()
    chooseSegments()
    test.state.selectors = selectors
    for number in 0..<16 where number < 8 || mode == .bits64 { test.state.general[number] = value() }
    test.state.general[4] = stackPointer()
    if chance(60) { test.state.general[1] = UInt64.random(in: 0...4, using: &random) }
    test.state.flags = 0x202 | random.next() & 0xcd5
    makeFloating(&test)
    let offset = start()
    test.state.rip = offset
    if [LegacyCodeLayout.flatCode32, LegacyCodeLayout.code64].contains(selectors[1]) {
      test.state.rip += LegacyCodeLayout.code
    }
    if chance(10) { appendFarTransfer(to: &test) }
    let count = Int.random(in: 1...3, using: &random)
    while test.mnemonics.count < count { append(to: &test) }
    return test
  }

  /// Sometimes at the end of a page, or of the segment.
  private mutating func start() -> UInt64 {
    if chance(80) { return 0x1100 }
    return (chance(80) ? 0x2000 : 0x3000) - UInt64.random(in: 1...9, using: &random)
  }

  private mutating func chooseSegments() {
    typealias L = LegacyCodeLayout
    if mode == .bits64 {
      selectors = [L.flatData, L.code64, L.flatData, L.flatData, 0, 0]
      return
    }
    let isFlat = mode == .bits32 && chance(30)
    let data = [
      L.data16.selector, L.data32.selector, L.expandDown32.selector, L.expandDown16.selector, L.readOnlyData.selector,
      L.readableCode.selector, L.flatData, L.data32.selector, L.data16.selector, 0,
    ]
    let stacks = [
      L.data16.selector, L.data32.selector, L.expandDown32.selector, L.expandDown16.selector, L.flatData,
    ]
    let code = mode == .bits16 ? L.code16.selector : isFlat || chance(30) ? L.flatCode32 : L.code32.selector
    func choose(_ list: [UInt16], _ random: inout SeededGenerator) -> UInt16 {
      isFlat ? L.flatData : list[Int.random(in: 0..<list.count, using: &random)]
    }
    selectors = [choose(data, &random), code, choose(stacks, &random), choose(data, &random)]
    selectors += [choose(data, &random), choose(data, &random)]
  }

  /// An offset that is likely to be good in the segment.
  private mutating func offset(in selector: UInt16) -> UInt64 {
    typealias L = LegacyCodeLayout
    let small = UInt64.random(in: 0..<0x7f00, using: &random)
    switch selector {
    case L.flatData, L.flatCode32, L.code64: return L.data + small
    case L.expandDown32.selector: return 0x6000 + small
    case L.expandDown16.selector: return 0x4000 + small
    default: return small
    }
  }

  private mutating func value() -> UInt64 {
    let wide = mode == .bits64 ? UInt64.max : 0xffff_ffff
    switch Int.random(in: 0..<10, using: &random) {
    case 0: return random.next() & wide
    case 1:
      let edges: [UInt64] = [
        0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xfffe, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, .max,
        0x1_fe0c, 0x5fff, 0x3fff,
      ]
      return edges[Int.random(in: 0..<edges.count, using: &random)] & wide
    case 2: return UInt64(LegacyCodeLayout.segments[Int.random(in: 0..<11, using: &random)].selector)
    default:
      let used = selectors[[0, 2, 3, 3][Int.random(in: 0..<4, using: &random)]]
      return offset(in: used)
    }
  }

  private mutating func stackPointer() -> UInt64 {
    if chance(90) { return (offset(in: selectors[2]) & ~1) + 0x40 }
    return selectors[2] == LegacyCodeLayout.flatData
      ? LegacyCodeLayout.data + UInt64.random(in: 0...16, using: &random) : UInt64.random(in: 0...16, using: &random)
  }

  private mutating func makeFloating(_ test: inout LegacyCodeCase) {
    test.state.floating[0] = 0x7f
    test.state.floating[1] = 3
    test.state.floating[24] = 0x80
    test.state.floating[25] = 0x1f
    for position in 160..<(mode == .bits64 ? 416 : 288) { test.state.floating[position] = byte() }
  }

  // MARK: Instructions

  private mutating func append(to test: inout LegacyCodeCase) {
    var bytes = prefixes()
    switch Int.random(in: 0..<10, using: &random) {
    case 0..<7: break
    case 7, 8: bytes.append(0x0f)
    default: bytes += [0x0f, chance(70) ? 0x38 : 0x3a]
    }
    for _ in 0..<16 { bytes.append(byte()) }
    var instruction = Instruction(mode: mode)
    let status = bytes.withUnsafeBytes { decoder.decode($0, into: &instruction) }
    guard case .decoded = status, isWanted(instruction) else { return }
    let use = instruction.effects.flags
    guard UInt64(use.tested.rawValue) & test.undefinedFlags == 0 else { return }
    var code = Array(bytes.prefix(Int(instruction.length)))
    let next = test.state.rip + UInt64(test.code.count + code.count)
    patch(&code, instruction, next)
    test.code += code
    test.mnemonics.append(instruction.mnemonic)
    test.undefinedFlags |= UInt64(use.undefined.rawValue)
  }

  /// A far jump or call, or a return with a frame for it.
  private mutating func appendFarTransfer(to test: inout LegacyCodeCase) {
    typealias L = LegacyCodeLayout
    let hasPrefix = chance(40)
    let size = (mode == .bits16) != hasPrefix ? 2 : 4
    let targets = [
      L.code16.selector, L.code32.selector, L.flatCode32, L.code64, L.executeOnly.selector, L.data16.selector, 0,
      L.absent.selector, L.code32.selector & ~3,
    ]
    var selector = targets[
      [0, 0, 1, 1, 2, 3, Int.random(in: 0..<9, using: &random)][Int.random(in: 0..<7, using: &random)]]
    // Linux does not come back to 64-bit code with a 16-bit stack.
    if selector == L.code64, selectors[2] != L.flatData { selector = L.flatCode32 }
    var offset = chance(80) ? UInt64.random(in: 0x1200...0x1e00, using: &random) : 0x2ff8 + UInt64(byte() & 15)
    if selector == L.flatCode32 || selector == L.code64, size == 4 { offset += L.code }
    func bytes(_ values: [UInt64]) -> [UInt8] {
      values.flatMap { value in (0..<size).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }
    }
    if hasPrefix { test.code.append(0x66) }
    let kind = [0xea, 0x9a, 0xcb, 0xca, 0xcf][Int.random(in: 0..<5, using: &random)]
    test.code.append(UInt8(kind))
    test.mnemonics.append(kind == 0x9a ? "far call" : "far")
    if kind == 0xea || kind == 0x9a {
      test.code += bytes([offset]) + [UInt8(selector & 0xff), UInt8(selector >> 8)]
      return
    }
    let frame = L.base(selectors[2]) + test.state.general[4]
    if kind == 0xcf, frame &- L.data >= L.dataSize - 16 { test.code[test.code.count - 1] = 0xcb }
    if kind == 0xca { test.code += [UInt8.random(in: 0...8, using: &random), 0] }
    let width: UInt64 = [L.data16.selector, L.expandDown16.selector].contains(selectors[2]) ? 0xffff : 0xffff_ffff
    let junk = UInt64.random(in: 0...0xffff, using: &random) << 16
    test.bytes = (
      L.base(selectors[2]) + test.state.general[4] & width,
      bytes([offset, UInt64(selector) | junk, 0x202 | random.next() & 0xcd5])
    )
  }

  private mutating func prefixes() -> [UInt8] {
    var bytes: [UInt8] = []
    if chance(25) { bytes.append(0x66) }
    if chance(15) { bytes.append(0x67) }
    if chance(25) { bytes.append([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65][Int.random(in: 0..<6, using: &random)]) }
    if chance(10) { bytes.append([0xf2, 0xf3, 0xf0][Int.random(in: 0..<3, using: &random)]) }
    if mode == .bits64, chance(60) { bytes.append(0x40 | byte() & 15) }
    return bytes
  }

  private func isWanted(_ instruction: Instruction) -> Bool {
    guard announces(instruction.feature) else { return false }
    let isOneByte = instruction.opcodeMap == 0 && instruction.encoding == .legacy
    // MASKMOVQ faults where nothing is selected, and what x87 has beyond 8 bytes is more than one access.
    if instruction.opcodeMap == Instruction.OpcodeMap.escape0F, instruction.opcode == 0xf7 { return false }
    if instruction.feature == .x87, let memory = instruction.memoryOperand, memory.size > 8 { return false }
    switch instruction.classification {
    case .innocuous: return true
    case .implicitMemory, .legacyOnly, .jump, .conditionalJump, .loop, .call, .nearReturn, .indirectJump,
      .indirectCall:
      return true
    case .softwareInterrupt:  // INT1 under a hypervisor comes with RIP at itself.
      return isOneByte && instruction.opcode != 0xcd && instruction.opcode != 0xf1
    case .sensitive:
      if isOneByte {
        // RFLAGS.ID, once set, would stay in the other process.
        if instruction.opcode == 0x9d { return instruction.operandSize == 2 }
        return [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x8c, 0x8e, 0x9c, 0xc4, 0xc5].contains(instruction.opcode)
      }
      guard instruction.opcodeMap == Instruction.OpcodeMap.escape0F, instruction.encoding == .legacy else {
        return false
      }
      if instruction.opcode == 0 { return instruction.reg >= 4 }
      return [0x02, 0x03, 0xa0, 0xa1, 0xa8, 0xa9, 0xb2, 0xb4, 0xb5].contains(instruction.opcode)
    default: return false
    }
  }

  /// Makes addresses likely to be good, and jumps lead out of the test's own code.
  private mutating func patch(_ code: inout [UInt8], _ instruction: Instruction, _ next: UInt64) {
    func store(_ value: UInt64, at offset: UInt8, size: UInt8) {
      for index in 0..<Int(size) {
        code[Int(offset) + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
      }
    }
    if instruction.branchOffset != nil {
      if instruction.immediateSize == 1 {
        code[Int(instruction.immediateOffset)] = UInt8.random(in: 0x30...0xb0, using: &random)
      } else {
        store(
          UInt64.random(in: 0x30...0x1000, using: &random), at: instruction.immediateOffset,
          size: instruction.immediateSize)
      }
    }
    let memory = instruction.memoryOperand ?? instruction.effects.memory.0
    guard let memory, instruction.displacementSize >= 2, chance(95) else { return }
    var place = offset(in: selectors[Int(memory.segment.rawValue)])
    if memory.isRIPRelative {
      place = place &- next
    } else if memory.base != nil || memory.index != nil {
      place = UInt64(bitPattern: Int64.random(in: -64...64, using: &random))
    }
    store(place, at: instruction.displacementOffset, size: instruction.displacementSize)
  }
}
