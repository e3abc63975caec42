import TrivisorInstructionSet

/// Encodings that a translator may treat alike: a line of the opcode table, an operand size, register or memory.
struct InstructionKind {
  struct Key: Hashable {
    let form: UInt16
    let operandSize: UInt8
    let isWide: Bool
    let vectorLength: UInt8
    let isMemory: Bool
    let isLocked: Bool
    let isRepeated: Bool

    init(_ instruction: Instruction) {
      form = instruction.form
      operandSize = instruction.operandSizeMatters ? instruction.operandSize : 0
      isWide = instruction.encoding == .vex && instruction.rexW
      vectorLength = instruction.vectorLength
      isMemory = instruction.hasModRMMemory
      isLocked = instruction.prefixes.contains(.lock)
      isRepeated = instruction.isRepeated
    }
  }

  let key: Key
  let mnemonic: String
  let feature: Feature
  let classification: Classification
  /// In front of REX and the opcode: 66, F3, F2, F0.
  let prefixes: [UInt8]
  let needsREXW: Bool
  /// Escape bytes, or with VEX nothing.
  let escape: [UInt8]
  /// VEX: map, and the byte with W, L and pp.
  let vex: (map: UInt8, last: UInt8)?
  let hasModRM: Bool
  /// Opcode and ModRM of the encodings that were found.
  var variants: [(opcode: UInt8, modRM: UInt8)]

  /// "add r/m 8 bytes, lock".
  var name: String {
    var parts = [mnemonic]
    if hasModRM { parts.append(key.isMemory ? "memory" : "register") }
    if key.operandSize != 0 { parts.append("\(Int(key.operandSize) * 8) bits") }
    if vex != nil { parts.append("VEX.\(key.vectorLength == 0 ? 128 : 256).W\(key.isWide ? 1 : 0)") }
    if key.isLocked { parts.append("locked") }
    if key.isRepeated { parts.append("repeated") }
    return parts.joined(separator: " ")
  }
}

/// Every kind that can be compared with the host's processor at CPL 3.
struct KindCatalogue {
  private(set) var kinds: [InstructionKind] = []
  private var places: [InstructionKind.Key: Int] = [:]
  private let decoder = Decoder(mode: .bits64)
  private let announces: (Instruction) -> Bool

  /// - Parameter announces: whether the guest has what an instruction needs.
  init(announces: @escaping (Instruction) -> Bool) {
    self.announces = announces
    // Memory by register and by SIB, for each reg: the generator has others. And every register.
    let modRMs: [UInt8] = (0...255).filter { $0 >= 0xc0 || ($0 < 0x40 && $0 & 3 == 0) }
    let legacyPrefixes: [[UInt8]] = [[], [0x66], [0xf3], [0xf2], [0x66, 0xf2], [0xf0], [0x66, 0xf0]]
    for escape in [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]] as [[UInt8]] {
      for prefixes in legacyPrefixes {
        for isWide in [false, true] {
          for opcode in UInt8.min...UInt8.max {
            let head = prefixes + (isWide ? [0x48] : []) + escape + [opcode]
            visit(head, modRMs, opcode: opcode) { instruction, variants in
              InstructionKind(
                key: .init(instruction), mnemonic: instruction.mnemonic, feature: instruction.feature,
                classification: instruction.classification, prefixes: prefixes, needsREXW: isWide, escape: escape,
                vex: nil, hasModRM: instruction.hasModRM, variants: variants)
            }
          }
        }
      }
    }
    for map in UInt8(1)...3 {
      for low in UInt8(0)..<8 {
        for wide in [0, 0x80] as [UInt8] {
          for opcode in UInt8.min...UInt8.max {
            for vvvv in [0x78, 0x18] as [UInt8] {
              let last = wide | low
              visit([0xc4, 0xe0 | map, last | vvvv, opcode], modRMs, opcode: opcode) { instruction, variants in
                InstructionKind(
                  key: .init(instruction), mnemonic: instruction.mnemonic, feature: instruction.feature,
                  classification: instruction.classification, prefixes: [], needsREXW: false, escape: [],
                  vex: (map, last), hasModRM: instruction.hasModRM, variants: variants)
              }
            }
          }
        }
      }
    }
  }

  private mutating func visit(
    _ head: [UInt8], _ modRMs: [UInt8], opcode: UInt8,
    _ make: (Instruction, [(opcode: UInt8, modRM: UInt8)]) -> InstructionKind
  ) {
    var bytes = head + [UInt8](repeating: 0x11, count: 32 - head.count)
    var instruction = Instruction(mode: .bits64)
    for modRM in modRMs {
      bytes[head.count] = modRM
      bytes[head.count + 1] = 0x24
      guard bytes.withUnsafeBytes({ decoder.decode($0, into: &instruction) }) == .decoded else { continue }
      // Prefixes and escape bytes come by here as opcodes, too.
      guard instruction.length >= head.count, Int(instruction.opcodeOffset) == head.count - 1 else { return }
      if Self.isComparable(instruction), announces(instruction) {
        let key = InstructionKind.Key(instruction)
        if let place = places[key] {
          kinds[place].variants.append((opcode, modRM))
        } else {
          places[key] = kinds.count
          kinds.append(make(instruction, [(opcode, modRM)]))
        }
      }
      if !instruction.hasModRM { return }
    }
  }

  /// Left out: what gives the host's or another moment's answer, what changes selectors, and what calls the host.
  static func isComparable(_ instruction: Instruction) -> Bool {
    switch instruction.classification {
    case .innocuous, .implicitMemory, .jump, .conditionalJump, .loop, .call, .nearReturn, .indirectJump, .indirectCall,
      .privileged:
      // VMCALL at CPL 3 is answered by the hypervisor that the host may itself run under.
      return instruction.feature != .rdrand && instruction.feature != .rdseed && instruction.operation != .vmcall
    case .sensitive:
      // The bases of FS and GS, and PUSHF and POPF, are the code's own.
      if instruction.feature == .fsgsbase { return true }
      return instruction.encoding == .legacy && instruction.opcodeMap == Instruction.OpcodeMap.oneByte
        && (instruction.opcode == 0x9c || instruction.opcode == 0x9d)
    default: return false
    }
  }
}
