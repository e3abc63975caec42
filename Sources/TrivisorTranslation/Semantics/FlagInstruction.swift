import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Instructions that work on RFLAGS and nothing else: CLI, STI, CLD, STD, CLAC, STAC, PUSHF and POPF (AMD64 APM vol. 3).
struct FlagInstruction<Context: SystemContext> {
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
    case .pushf where context.isVirtual8086:
      try Virtual8086Instruction(context: context, size: Int(instruction.operandSize)).pushFlags()
    case .popf where context.isVirtual8086:
      try Virtual8086Instruction(context: context, size: Int(instruction.operandSize)).popFlags()
    case .pushf:
      let value = context.flags.subtracting([.resume, .virtual8086])
      try context.push(value.rawValue, size: Int(instruction.operandSize))
    default: try pop(size: Int(instruction.operandSize))
    }
    context.rip = next
  }

  private func changeInterrupts(_ isSet: Bool) throws(Interruption) {
    if context.isVirtual8086 {
      try Virtual8086Instruction(context: context, size: 2).changeInterrupts(isSet)
      return
    }
    guard context.cpl <= context.flags.ioPrivilege || !context.isProtected else {
      // Protected mode's virtual interrupts (AMD64 APM vol. 2, 8.10.4).
      guard context.cpl == 3, context.cr4.contains(.protectedModeVirtualInterrupts) else { throw .exception(.general) }
      try context.checkVirtualInterrupt(isSet: isSet)
      if isSet { context.flags.insert(.virtualInterrupt) } else { context.flags.remove(.virtualInterrupt) }
      return
    }
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
