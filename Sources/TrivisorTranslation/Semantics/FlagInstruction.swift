import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Instructions that work on RFLAGS and nothing else: CLI, STI, CLD, STD, CLAC, STAC, PUSHF and POPF (AMD64 APM vol. 3).
struct FlagInstruction<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    switch instruction.operation {
    case .cld: context.flags.remove(.direction)
    case .std: context.flags.insert(.direction)
    case .clac, .stac:
      guard context.cpl == 0 else { throw .exception(.invalidOpcode) }
      if instruction.operation == .clac {
        context.flags.remove(.alignmentCheck)
      } else {
        context.flags.insert(.alignmentCheck)
      }
    case .cli, .sti: try changeInterrupts(instruction.operation == .sti)
    case .pushf:
      let value = context.flags.subtracting([.resume, .virtual8086])
      try context.push(value.rawValue, size: Int(instruction.operandSize))
    default: try pop(size: Int(instruction.operandSize))
    }
    context.rip = next
  }

  private func changeInterrupts(_ isSet: Bool) throws(Interruption) {
    guard context.cpl <= context.flags.ioPrivilege || !context.isProtected else { throw .exception(.general) }
    if isSet {
      if !context.flags.contains(.interrupt) { context.shadow = .interrupts }
      context.flags.insert(.interrupt)
    } else {
      context.flags.remove(.interrupt)
    }
  }

  /// POPF.
  private func pop(size: Int) throws(Interruption) {
    let value = try context.peek(0, size: size)
    context.stackPointer = context.stackPointer &+ UInt64(size)
    context.returnFlags(RFLAGS(rawValue: value), size: size, from: context.cpl, byPOPF: true)
  }
}
