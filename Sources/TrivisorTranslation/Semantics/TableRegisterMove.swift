import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// SGDT, SIDT, LGDT and LIDT (AMD64 APM vol. 3).
struct TableRegisterMove<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let is64 = context.is64
    let size = is64 ? 8 : 4
    switch instruction.operation {
    case .sgdt, .sidt:
      let table = instruction.operation == .sgdt ? context.gdt : context.idt
      let address = try context.linear(memory, next, size: size + 2, isWrite: true)
      try context.check(address, count: size + 2, .write)
      try context.save(address, UInt64(table.limit), size: 2)
      try context.save(address &+ 2, table.base, size: size)
    default:
      let address = try context.linear(memory, next, size: size + 2, isWrite: false)
      let limit = UInt16(truncatingIfNeeded: try context.load(address, size: 2))
      var base = try context.load(address &+ 2, size: size)
      if !is64, instruction.operandSize == 2 { base = base.cut(to: 3) }
      if is64, !LinearAddress.isCanonical(base) { throw .exception(.general) }
      let table = DescriptorTable(base: base, limit: limit)
      if instruction.operation == .lgdt { context.gdt = table } else { context.idt = table }
    }
    context.rip = next
  }
}
