import Testing
import TrivisorInstructionSet

/// What is worked out in less time must be the same.
@Suite("registers and flags without operands") struct ShortFormTests {
  @Test(
    "an instruction's use is that of its effects, its fields are those of its operands", arguments: CPUMode.allCases)
  func agree(mode: CPUMode) {
    let decoder = Decoder(mode: mode)
    var wrong: Set<String> = []
    Walk(mode: mode).forEach { bytes in
      guard case .instruction(let instruction) = decoder.decode(bytes) else { return }
      let effects = instruction.effects
      if instruction.use.general != effects.general || instruction.use.flags != effects.flags {
        wrong.insert("use of \(instruction.mnemonic)")
      }
      for index in 0..<instruction.operandCount where !Self.agrees(instruction, index) {
        wrong.insert("operand \(index) of \(instruction.mnemonic)")
      }
    }
    #expect(wrong.isEmpty, "\(wrong.sorted().prefix(20))")
  }

  private static func agrees(_ instruction: Instruction, _ index: Int) -> Bool {
    let field = instruction.field(at: index)
    // A segment register that there isn't.
    guard let operand = instruction.operand(at: index) else { return field.kind == .system || field.kind == .other }
    guard field.access == operand.access, field.place == operand.place else { return false }
    switch operand.kind {
    case .general(let register):
      return field.kind == .general && field.register == register && field.isByte == (operand.size == 1)
    case .highByte(let register):
      return field.kind == .highByte && field.register == register && field.isByte == (operand.size == 1)
    case .memory(let memory):
      if operand.place == .none { return field.kind == .implicitMemory }
      return field.kind == .memory && memory == instruction.memoryOperand
    case .vector, .mmx, .x87, .immediate: return field.kind == .other
    case .segment, .control, .debug, .relative, .farPointer: return field.kind == .system
    }
  }
}
