import TrivisorInstructionSet

/// What instructions of one encoding have in common, whatever their displacement and immediates: worked out once.
struct InstructionTemplate {
  /// The parts of an encoding that decide it.
  struct Key: Equatable {
    private let parts: UInt64
    private let segmentOverride: SegmentRegister?

    @inline(__always)
    init(_ instruction: Instruction) {
      let opcode = UInt64(instruction.form) | UInt64(instruction.opcode) << 16
      let operand = UInt64(instruction.modRM) << 24 | UInt64(instruction.sib) << 32
      let prefix = UInt64(instruction.prefixes.rawValue) << 40 | UInt64(instruction.rex & 15) << 48
      let vector = UInt64(instruction.vvvv & 15) << 52 | UInt64(instruction.vectorLength & 3) << 56
      // 1, 2 or 4, and 16-, 32- or 64-bit code.
      let width = UInt64(instruction.operandSize >> 1 & 7) << 58 | UInt64(instruction.mode.number) << 61
      parts = opcode | operand | prefix | vector | width
      segmentOverride = instruction.segmentOverride
    }

    /// 32 bits: a product's upper ones depend on all of its factors' bits. The upper half comes last.
    @inline(__always)
    var hash: Int {
      let mixed = (parts &* 0x9e37_79b9_7f4a_7c15) >> 32
      return Int(truncatingIfNeeded: mixed >> 16 | (mixed & 0xffff) << 16)
    }
  }

  let key: Key
  let effects: InstructionUse
  /// All arithmetic flags are replaced, unless it is a shift by nothing.
  let overwritesFlags: Bool
  /// `nil` where a translation is refused (`OperationShape` says why), and for what is not innocuous.
  let shape: OperationShape?
  /// Without its immediate.
  let recipe: FlagRecipe?

  init(_ instruction: Instruction, _ key: Key) {
    self.key = key
    effects = instruction.use
    overwritesFlags = effects.flags.changed.isSuperset(of: .arithmetic) && !effects.flags.isConditional
    switch instruction.classification {
    case .innocuous, .legacyOnly:
      shape = try? OperationShape(instruction, effects, is64: instruction.mode == .bits64)
    default: shape = nil
    }
    recipe = FlagRecipe(instruction)
  }

  /// How the flags that this instruction of the encoding sets can be made again.
  @inline(__always)
  func recipe(for instruction: Instruction) -> FlagRecipe? {
    guard var recipe else { return nil }
    if recipe.usesImmediate { recipe.immediate = Int32(truncatingIfNeeded: instruction.immediate) }
    return recipe
  }
}

extension CPUMode {
  /// 1 to 3.
  @inline(__always)
  fileprivate var number: UInt8 {
    switch self {
    case .bits16: 1
    case .bits32: 2
    case .bits64: 3
    }
  }
}
