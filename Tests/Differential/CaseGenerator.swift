// Random cases: which instructions, with which registers and memory, from which state.
//
// Operands that are merely random would nearly always be faults. So an instruction's memory is chosen first, often near the
// end of a page, and the registers that form its address are made to fit; the instruction that goes last is made to fit
// first, so that the first instruction, for whose kind the case is made, has its way.

import TrivisorInstructionSet

struct CaseGenerator {
  let kinds: [InstructionKind]
  /// Kinds that set all arithmetic flags from registers, and kinds that access memory.
  private let settingFlags: [Int]
  private let accessing: [Int]
  private let decoder = Decoder(mode: .bits64)

  init(kinds: [InstructionKind]) {
    self.kinds = kinds
    let arithmetic: Set = ["add", "sub", "cmp", "and", "or", "xor", "test"]
    settingFlags = kinds.indices.filter { arithmetic.contains(kinds[$0].mnemonic) && !kinds[$0].key.isMemory }
    accessing = kinds.indices.filter { kinds[$0].key.isMemory }
  }

  /// Case `index` begins with an instruction of kind `index` modulo their number.
  func make(seed: UInt64, index: UInt64) -> TestCase {
    var random = RandomNumbers(seed: seed, index: index)
    var test = TestCase()
    fillState(&test, &random)
    // Now and then flags are set, memory is accessed, and flags are set again: what a translator need not keep.
    let isAboutFlags = random.chance(15)
    // Or several accesses go by one register: what a translator may check at once.
    let base = !isAboutFlags && random.chance(15) ? [UInt8(3), 5, 6, 7][random.below(4)] : nil
    let count = isAboutFlags || base != nil ? 5 : random.chance(40) ? 1 : 1 + random.below(5)
    var decoded: [Instruction] = []
    for position in 0..<count {
      let kind =
        switch position {
        case 0: Int(index % UInt64(kinds.count))
        case 1 where isAboutFlags, 4 where isAboutFlags: settingFlags[random.below(settingFlags.count)]
        case 2 where isAboutFlags, 1 where base != nil, 2 where base != nil, 4 where base != nil:
          accessing[random.below(accessing.count)]
        default: random.below(kinds.count)
        }
      guard let (element, instruction) = makeInstruction(kind, &random, position: position, count: count, base: base)
      else {
        continue
      }
      // What depends on a flag without a defined value has none either.
      let undefined = test.undefinedFlags.reduce(Flags()) { $0.union($1) }
      if !undefined.isDisjoint(with: element.flags.tested) { continue }
      test.elements.append(element)
      decoded.append(instruction)
    }
    // Some of these in a loop, whose accesses move on.
    if let base, random.chance(50) { appendLoopEnd(&test, &decoded, base: base, &random) }
    placeCode(&test, &random)
    var place = test.address
    var nextAddresses: [UInt64] = []
    for element in test.elements {
      place += UInt64(element.bytes.count)
      nextAddresses.append(place)
    }
    for position in test.elements.indices.reversed() {
      fit(&test, position, decoded[position], next: nextAddresses[position], &random)
    }
    return test
  }

  /// `add $step, base; sub $1, counter; jnz` back to one of the elements.
  private func appendLoopEnd(
    _ test: inout TestCase, _ decoded: inout [Instruction], base: UInt8, _ random: inout RandomNumbers
  ) {
    let counters = [UInt8(1), 2, 3, 6].filter { $0 != base }
    let counter = counters[random.below(counters.count)]
    let target = random.below(min(2, test.elements.count))
    let step = UInt8(truncatingIfNeeded: [8, 16, 4, -8, 1, 64][random.below(6)])
    test.general[Int(counter)] = UInt64(1 + random.below(12))
    for bytes in [[0x48, 0x83, 0xc0 | base, step], [0x48, 0x83, 0xe8 | counter, 1], [0x75, 0]] as [[UInt8]] {
      var instruction = Instruction(mode: .bits64)
      guard bytes.withUnsafeBytes({ decoder.decode($0, into: &instruction) }) == .decoded,
        let kind = kinds.firstIndex(where: { $0.key == InstructionKind.Key(instruction) })
      else { return }
      var element = TestCase.Element(
        bytes: bytes, kind: kind, mnemonic: instruction.mnemonic, flags: instruction.effects.flags)
      if instruction.branchOffset != nil {
        element.target = target
        element.branchOffset = (Int(instruction.immediateOffset), Int(instruction.immediateSize))
      }
      test.elements.append(element)
      decoded.append(instruction)
    }
  }

  // MARK: State

  private func fillState(_ test: inout TestCase, _ random: inout RandomNumbers) {
    for number in 0..<16 { test.general[number] = randomValue(&random) }
    test.general[4] = pointer(&random, size: 8)
    if random.chance(70) { test.general[4] &= ~7 }
    test.flags = 0x202 | random.next() & 0x8d5
    if random.chance(20) { test.flags |= 0x400 }
    if random.chance(3) { test.flags |= 0x4_0000 }
    test.bases = (UInt64(random.below(0x2000)), UInt64(random.below(0x2000)))
    for lane in 0..<64 { test.vectors[lane] = randomLane(&random) }
    test.mxcsr = 0x1f80
    if random.chance(20) { test.mxcsr = UInt32(truncatingIfNeeded: random.next()) & 0xffff }
    fillX87(&test, &random)
  }

  private func fillX87(_ test: inout TestCase, _ random: inout RandomNumbers) {
    let control: UInt16 = random.chance(75) ? 0x37f : UInt16(truncatingIfNeeded: random.next()) & 0xf3f | 0x40
    var status = UInt16(truncatingIfNeeded: random.next()) & 0x7f7f
    // Errors that are not masked raise #MF at the next instruction: seldom.
    if random.chance(90) {
      status &= ~0x3f | (control & 0x3f)
    } else if status & ~control & 0x3f != 0 {
      status |= 0x8080
    }
    let tags = random.chance(30) ? UInt8(0xff) : UInt8(truncatingIfNeeded: random.next())
    test.x87[0] = UInt8(truncatingIfNeeded: control)
    test.x87[1] = UInt8(truncatingIfNeeded: control >> 8)
    test.x87[2] = UInt8(truncatingIfNeeded: status)
    test.x87[3] = UInt8(truncatingIfNeeded: status >> 8)
    test.x87[4] = tags
    for register in 0..<8 {
      let significand = randomLane(&random) | (random.chance(90) ? 1 << 63 : 0)
      var exponent = UInt16(0x3fff - 20 + random.below(40)) | UInt16(random.below(2)) << 15
      if random.chance(20) { exponent = UInt16(truncatingIfNeeded: random.next()) }
      if random.chance(5) { exponent |= 0x7fff }
      for byte in 0..<8 {
        test.x87[32 + 16 * register + byte] = UInt8(truncatingIfNeeded: significand >> UInt64(8 * byte))
      }
      test.x87[32 + 16 * register + 8] = UInt8(truncatingIfNeeded: exponent)
      test.x87[32 + 16 * register + 9] = UInt8(truncatingIfNeeded: exponent >> 8)
    }
  }

  private func randomValue(_ random: inout RandomNumbers) -> UInt64 {
    switch random.below(10) {
    case 0..<4: return pointer(&random, size: 8)
    case 4, 5: return UInt64(random.below(256))
    case 6:
      let special: [UInt64] = [
        0, 1, .max, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, .max >> 1, 31, 32, 33, 63, 64, 0xffff, 0x8000,
      ]
      return special[random.below(special.count)]
    case 7: return random.next() >> UInt64(random.below(64))
    default: return random.next()
    }
  }

  /// Floating-point numbers of either width, integers, and bits.
  private func randomLane(_ random: inout RandomNumbers) -> UInt64 {
    func single(_ random: inout RandomNumbers) -> UInt64 {
      switch random.below(8) {
      case 0:
        return [0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7fa0_0000, 1, 0x3f80_0000][random.below(8)]
      case 1...4:
        return UInt64(((Float(random.below(4000)) - 2000) / Float(1 + random.below(64))).bitPattern)
      default: return random.next() & 0xffff_ffff
      }
    }
    switch random.below(6) {
    case 0: return ((Double(random.below(1_000_000)) - 500_000) / Double(1 + random.below(1000))).bitPattern
    case 1:
      return [0, 1 << 63, 0x7ff0 << 48, 0xfff0 << 48, 0x7ff8 << 48, 0x7ff4 << 48, 1, 0x3ff0 << 48][random.below(8)]
    case 2, 3: return single(&random) | single(&random) << 32
    case 4: return UInt64(random.below(128))
    default: return random.next()
    }
  }

  // MARK: Memory

  /// An address in the region, often such that `size` bytes from there cross a page's end or nearly do.
  private func pointer(_ random: inout RandomNumbers, size: Int) -> UInt64 {
    let size = max(size, 1)
    let page = 1 + random.below(Region.pageCount - 2)
    if random.chance(45) {
      // Somewhere in a page with data.
      let data = [1, 2, 4, 6, 9, 10, 11][random.below(7)]
      let offset = UInt64(random.below(4096 - min(size, 4095)))
      let address = Region.address(data) + offset
      return random.chance(60) ? address & ~UInt64(alignment(size) - 1) : address
    }
    let boundary = Region.address(page)
    if random.chance(40) { return boundary &- UInt64(size) }
    return boundary &+ UInt64(random.below(size + 16)) &- UInt64(size + 8)
  }

  private func alignment(_ size: Int) -> Int {
    var alignment = 1
    while alignment * 2 <= size, alignment < 32 { alignment *= 2 }
    return alignment
  }

  private func placeCode(_ test: inout TestCase, _ random: inout RandomNumbers) {
    let length = test.code.count
    let first = Region.address(Region.firstCodePage)
    switch random.below(20) {
    case 0:
      // Across the two pages of code, an instruction or the sequence.
      test.address = first + 4096 - UInt64(1 + random.below(length - 1))
    case 1:
      // Up to the end of code.
      test.address = first + 8192 - UInt64(length)
    default: test.address = first + UInt64(600 + random.below(3400 - length))
    }
  }

  /// Sets registers, displacements and bases so that the memory operands lie where they are wanted.
  private func fit(
    _ test: inout TestCase, _ position: Int, _ instruction: Instruction, next: UInt64, _ random: inout RandomNumbers
  ) {
    let effects = instruction.effects
    if instruction.isRepeated {
      test.general[1] = random.chance(80) ? UInt64(random.below(40)) : randomValue(&random)
    }
    if instruction.addressesBitString, random.chance(80),
      case .general(let register)? = instruction.operand(at: 1)?.kind
    {
      test.general[Int(register.rawValue)] = UInt64(bitPattern: Int64(random.below(600) - 300))
    }
    for memory in [effects.memory.1, effects.memory.0].compactMap({ $0 }) {
      if random.chance(4) { continue }
      if let index = memory.vectorIndex {
        for lane in 0..<4 {
          let low = UInt64(random.below(64)), high = UInt64(random.below(64))
          test.vectors[4 * Int(index) + lane] = memory.vectorIndexSize == 4 ? low | high << 32 : low
        }
      }
      let wanted = pointer(&random, size: Int(memory.size))
      let segment: UInt64 =
        memory.segment == .fs ? test.bases.fs : memory.segment == .gs ? test.bases.gs : 0
      let offset = wanted &- segment
      if memory.source == .direct {
        patch(&test, position, instruction, displacement: offset)
        continue
      }
      if memory.isRIPRelative {
        patch(&test, position, instruction, displacement: offset &- next)
        continue
      }
      var rest = offset &- UInt64(bitPattern: memory.displacement)
      if let index = memory.index, index != memory.base {
        if random.chance(70), memory.source != .table {
          test.general[Int(index.rawValue)] = UInt64(bitPattern: Int64(random.below(64) - 16))
        }
        let value = memory.source == .table ? test.general[0] & 0xff : test.general[Int(index.rawValue)]
        rest = rest &- value &* UInt64(memory.scale)
      }
      if let base = memory.base {
        test.general[Int(base.rawValue)] = rest
      } else if memory.index == nil, memory.source == .modRM {
        patch(&test, position, instruction, displacement: offset)
      }
    }
  }

  private func patch(_ test: inout TestCase, _ position: Int, _ instruction: Instruction, displacement: UInt64) {
    let offset = Int(instruction.displacementOffset)
    guard offset != 0 else { return }
    for byte in 0..<Int(instruction.displacementSize) {
      test.elements[position].bytes[offset + byte] = UInt8(truncatingIfNeeded: displacement >> UInt64(8 * byte))
    }
  }

  // MARK: Instructions

  private func makeInstruction(
    _ number: Int, _ random: inout RandomNumbers, position: Int, count: Int, base: UInt8? = nil
  ) -> (TestCase.Element, Instruction)? {
    let kind = kinds[number]
    for _ in 0..<20 {
      var bytes: [UInt8] = []
      if kind.key.isMemory || kind.classification == .implicitMemory, base == nil {
        if random.chance(6) { bytes.append(0x67) }
        if random.chance(12) { bytes.append(random.chance(50) ? 0x64 : 0x65) }
      }
      bytes += kind.prefixes
      let variant = kind.variants[random.below(kind.variants.count)]
      var modRM = variant.modRM
      if kind.key.isMemory {
        if random.chance(60) { modRM = modRM & 0x38 | UInt8(random.below(8)) }
        modRM = modRM & 0x3f | [0x00, 0x40, 0x40, 0x80][random.below(4)]
        if let base { modRM = modRM & 0x38 | 0x40 | base }
      }
      // R, X and B.
      let extensions = UInt8(random.below(8)) & (base == nil ? 7 : 4)
      if let (map, last) = kind.vex {
        bytes += [0xc4, (extensions ^ 7) << 5 | map, last | UInt8(random.below(16)) << 3, variant.opcode]
      } else {
        if kind.needsREXW || random.chance(50) {
          bytes.append((kind.needsREXW ? 0x48 : 0x40) | extensions)
        }
        bytes += kind.escape + [variant.opcode]
      }
      if kind.hasModRM {
        bytes.append(modRM)
        if modRM < 0xc0, modRM & 7 == 4 { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
      }
      let head = bytes.count
      for _ in 0..<16 { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
      var instruction = Instruction(mode: .bits64)
      guard bytes.withUnsafeBytes({ decoder.decode($0, into: &instruction) }) == .decoded,
        Int(instruction.length) >= head, InstructionKind.Key(instruction) == kind.key,
        instruction.classification == kind.classification
      else { continue }
      bytes.removeSubrange(Int(instruction.length)...)
      if instruction.displacementSize == 4, instruction.displacementOffset != 0, random.chance(80) {
        let small = Int32(random.below(512) - 256)
        for byte in 0..<4 {
          bytes[Int(instruction.displacementOffset) + byte] = UInt8(truncatingIfNeeded: small >> Int32(8 * byte))
        }
        guard bytes.withUnsafeBytes({ decoder.decode($0, into: &instruction) }) == .decoded else { continue }
      }
      var element = TestCase.Element(
        bytes: bytes, kind: number, mnemonic: instruction.mnemonic, flags: instruction.effects.flags)
      if instruction.branchOffset != nil, random.chance(92) {
        element.target = position + 1 + random.below(count - position)
        element.branchOffset = (Int(instruction.immediateOffset), Int(instruction.immediateSize))
      }
      return (element, instruction)
    }
    return nil
  }
}
