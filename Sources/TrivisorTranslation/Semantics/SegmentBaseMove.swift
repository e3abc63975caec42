import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// SWAPGS, RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE (AMD64 APM vol. 3).
struct SegmentBaseMove<Context: SystemContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.is64, instruction.operation == .swapgs || context.cr4.contains(.fsgsbase) else {
      throw .exception(.invalidOpcode)
    }
    let (register, size) = (instruction.registerOfRM, Int(instruction.operandSize))
    switch instruction.operation {
    case .swapgs: (context.gsBase, context.kernelGSBase) = (context.kernelGSBase, context.gsBase)
    case .rdfsbase: context.setGeneral(register, context.fsBase, size: size)
    case .rdgsbase: context.setGeneral(register, context.gsBase, size: size)
    default:
      let value = context.general(register, size: size)
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      if instruction.operation == .wrfsbase { context.fsBase = value } else { context.gsBase = value }
    }
    context.rip = next
  }
}
