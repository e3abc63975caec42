import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// FLDENV and FRSTOR (AMD64 APM vol. 5; vol. 2, 11.4.3): by the host's own instruction, from where the bytes are in this process.
/// Pointers are the guest's, and do not concern the host's processor.
struct X87EnvironmentLoad<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.cr0.isDisjoint(with: [.emulation, .taskSwitched]) else { throw .exception(.deviceNotAvailable) }
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    guard !context.hasPendingX87Error else { throw .exception(.x87) }
    let isWide = instruction.operandSize != 2
    let count = (isWide ? 28 : 14) + (instruction.operation == .frstor ? 80 : 0)
    let address = try context.linear(memory, next, size: count, isWrite: false)
    try context.withBytes(address, count: count, .read) { area throws(Interruption) in
      context.x87Pointers = X87Pointers(environment: area, isReal: !context.usesDescriptors, isWide: isWide)
      context.loadX87Environment(area, count: count)
    }
    context.rip = next
  }
}
