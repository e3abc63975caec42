// Where the guest's flags are, and what has to be done to have them there.

import InstructionSet

extension Translator {
  /// Brings the flags to the host's.
  func requireHostFlags() {
    if flags == .recipe {
      emitRecipe()
    } else if !flags.contains(.host) {
      emitter.restoreFlags()
    }
    flags = .host
  }

  /// Puts a copy into RAX.
  func requireSavedFlags() {
    if flags == .recipe { requireHostFlags() }
    if !flags.contains(.rax) { emitter.saveFlags() }
    flags.insert(.rax)
  }

  /// Before the host's flags are destroyed: a copy is in RAX, or none is needed.
  func giveUpHostFlags() {
    if flags.contains(.rax) || flags == .recipe { return }
    if is64, let recipe, dieBehind(recipe) {
      flags = .recipe
    } else {
      requireSavedFlags()
    }
  }

  /// Makes the flags of the recipe again, in the host's flags. RAX is free, because they are not there.
  private func emitRecipe() {
    guard let recipe else { return }
    let w = recipe.isWide
    func place(_ register: GeneralRegister) -> Place {
      home(register).map { Place.register($0) } ?? .state(StateLayout.general(register.rawValue))
    }
    func operation(_ number: UInt8) {
      if let right = recipe.right {
        emitter.legacy(w: w, number << 3 | 3, reg: Host.rax, place(right))
      } else {
        emitter.legacy(w: w, 0x81, reg: number, .register(Host.rax))
        emitter.word32(recipe.immediate)
      }
    }
    emitter.legacy(w: w, 0x8b, reg: Host.rax, place(recipe.left))
    switch recipe.operation {
    case .sum:
      operation(5)
      operation(0)
    case .difference:
      operation(0)
      operation(7)
    case .comparison: operation(7)
    case .test:
      if let right = recipe.right {
        emitter.legacy(w: w, 0x85, reg: Host.rax, place(right))
      } else {
        emitter.legacy(w: w, 0xf7, reg: 0, .register(Host.rax))
        emitter.word32(recipe.immediate)
      }
    case .result: emitter.legacy(w: w, 0x85, reg: Host.rax, .register(Host.rax))
    }
  }

  /// Before an instruction: the flags are taken out of a recipe that it would spoil.
  func keepRecipeGood() {
    guard flags == .recipe, let recipe else { return }
    let (instruction, effects) = (decoded[position].instruction, decoded[position].effects)
    if !isPlain(instruction) {
      requireHostFlags()
    } else if !effects.general.written.isDisjoint(with: recipe.registers), !overwritesFlags(instruction, effects.flags)
    {
      requireSavedFlags()
    }
  }

  /// Behind an instruction: what is known of its flags, or still known of older ones.
  func renewRecipe() {
    let (instruction, effects) = (decoded[position].instruction, decoded[position].effects)
    if decoded[position].goesRound { return }
    if !isPlain(instruction) {
      recipe = nil
    } else if !effects.flags.changed.isDisjoint(with: .arithmetic) {
      recipe = overwritesFlags(instruction, effects.flags) ? FlagRecipe(instruction) : nil
    } else if let known = recipe, !effects.general.written.isDisjoint(with: known.registers) {
      recipe = nil
    }
  }

  /// Whether the instruction in work or one soon behind it overwrites the flags of the recipe, and none before it reads them,
  /// leaves the block or spoils the recipe.
  private func dieBehind(_ recipe: FlagRecipe) -> Bool {
    for index in position..<min(position + 12, decoded.count) {
      let (instruction, effects) = (decoded[index].instruction, decoded[index].effects)
      guard isPlain(instruction), effects.flags.tested.isDisjoint(with: .arithmetic) else { return false }
      if overwritesFlags(instruction, effects.flags) { return true }
      guard effects.flags.changed.isDisjoint(with: .arithmetic),
        effects.general.written.isDisjoint(with: recipe.registers)
      else { return false }
    }
    return false
  }

  /// Translated in place, and all that it does is in its effects.
  func isPlain(_ instruction: Instruction) -> Bool {
    switch instruction.classification {
    case .innocuous: !instruction.setsDirection && !instruction.isMaskedMove
    case .implicitMemory:
      instruction.encoding == .legacy && instruction.opcodeMap == Instruction.OpcodeMap.oneByte
        && 0x50...0x5f ~= instruction.opcode
    default: false
    }
  }

  /// Whether the instruction in work must find the flags in the host's.
  func needsHostFlags(_ instruction: Instruction) -> Bool {
    let use = effects.flags
    if !use.tested.isDisjoint(with: .arithmetic) { return true }
    if use.changed.isDisjoint(with: .arithmetic) || overwritesFlags(instruction, use) { return false }
    // What it leaves as it is matters, unless nobody can see it.
    return flags.contains(.host) || !flagsDieBehind()
  }

  /// Whether nothing is left of the arithmetic flags.
  private func overwritesFlags(_ instruction: Instruction, _ use: FlagUse) -> Bool {
    use.changed.isSuperset(of: .arithmetic) && !use.isConditional && !shiftsByNothing(instruction)
  }

  /// Whether the next instructions of this block overwrite all arithmetic flags before anything can read them, fault or
  /// leave.
  private func flagsDieBehind() -> Bool {
    for index in min(position + 1, decoded.count)..<min(position + 9, decoded.count) {
      let (ahead, effects) = (decoded[index].instruction, decoded[index].effects)
      guard cannotFault(ahead) else { return false }
      if !effects.flags.tested.isDisjoint(with: .arithmetic) { return false }
      if overwritesFlags(ahead, effects.flags) { return true }
    }
    return false
  }

  /// Only registers, and no division.
  private func cannotFault(_ instruction: Instruction) -> Bool {
    guard instruction.classification == .innocuous, instruction.encoding == .legacy, instruction.feature == .base,
      !instruction.hasModRMMemory, !instruction.setsDirection, !instruction.prefixes.contains(.lock)
    else { return false }
    switch (instruction.opcodeMap, instruction.opcode) {
    case (Instruction.OpcodeMap.oneByte, 0xf6), (Instruction.OpcodeMap.oneByte, 0xf7): return instruction.reg < 6
    // AAM and AAD are other classes; WAIT looks at the x87.
    case (Instruction.OpcodeMap.oneByte, 0x9b): return false
    default: return true
    }
  }

  private func shiftsByNothing(_ instruction: Instruction) -> Bool {
    guard instruction.encoding == .legacy, instruction.immediateSize == 1 else { return false }
    let isShift =
      instruction.opcodeMap == Instruction.OpcodeMap.oneByte
      ? instruction.opcode == 0xc0 || instruction.opcode == 0xc1
      : instruction.opcode == 0xa4 || instruction.opcode == 0xac
    return isShift && instruction.immediate & (instruction.operandSize == 8 ? 63 : 31) == 0
  }
}
