// How long the arithmetic flags live in a block.

import TrivisorInstructionSet

extension BlockPlan {
  /// Where a block wants the flags when it begins.
  enum FlagsWish {
    /// What first looks at them reads them, or leaves some as they are.
    case host
    /// They have to be kept, or are passed on.
    case rax
    /// Nobody will see them.
    case nowhere
  }

  /// What happens first to the flags that come into the block.
  var flagsWish: FlagsWish {
    if mode.isSingleStepping || key.isStraddling { return .rax }
    if flagsDie(behind: -1) { return .nowhere }
    for index in instructions.indices {
      let use = instructions[index].effects.flags
      let instruction = instructions[index].instruction
      guard instruction.isPlain else {
        return instruction.classification == .conditionalJump || instruction.classification == .loop ? .host : .rax
      }
      if !use.tested.isDisjoint(with: .arithmetic) { return .host }
      // A check comes before the instruction itself.
      if instruction.hasModRMMemory || instruction.classification == .implicitMemory { return .rax }
      if !use.changed.isDisjoint(with: .arithmetic) { return overwritesFlags(index) ? .rax : .host }
    }
    return .rax
  }

  /// Whether nothing is left of the arithmetic flags behind an instruction.
  func overwritesFlags(_ position: Int) -> Bool {
    instructions[position].template.pointee.overwritesFlags && !instructions[position].instruction.shiftsByNothing
  }

  /// Whether the instruction at `position` or one soon behind it overwrites the flags of the recipe, and none before it reads
  /// them, leaves the block or spoils the recipe.
  func flagsDie(from position: Int, keeping recipe: FlagRecipe) -> Bool {
    for index in position..<min(position + 12, instructions.count) {
      let (instruction, effects) = (instructions[index].instruction, instructions[index].effects)
      guard instruction.isPlain, effects.flags.tested.isDisjoint(with: .arithmetic) else { return false }
      if overwritesFlags(index) { return true }
      guard effects.flags.changed.isDisjoint(with: .arithmetic),
        effects.general.written.isDisjoint(with: recipe.registers)
      else { return false }
    }
    return false
  }

  /// Whether the instructions behind `position` overwrite all arithmetic flags before anything can read them, fault or
  /// leave.
  func flagsDie(behind position: Int) -> Bool {
    for index in min(position + 1, instructions.count)..<min(position + 9, instructions.count) {
      let (ahead, effects) = (instructions[index].instruction, instructions[index].effects)
      guard ahead.cannotFault else { return false }
      if !effects.flags.tested.isDisjoint(with: .arithmetic) { return false }
      if overwritesFlags(index) { return true }
    }
    return false
  }
}

extension Instruction {
  /// Only registers, no division, and no PAUSE, where the block may be left to rest (`SpinBrake`).
  fileprivate var cannotFault: Bool {
    guard classification == .innocuous, encoding == .legacy, feature == .base, !hasModRMMemory, !setsDirection,
      !prefixes.contains(.lock)
    else { return false }
    return operation != .div && operation != .idiv && operation != .pause
  }

  /// A shift whose count is 0 in the operand's width leaves the flags alone.
  fileprivate var shiftsByNothing: Bool {
    guard encoding == .legacy, immediateSize == 1 else { return false }
    switch operation {
    case .rol, .ror, .rcl, .rcr, .shl, .shr, .sar, .shld, .shrd: return immediate & (operandSize == 8 ? 63 : 31) == 0
    default: return false
    }
  }
}
