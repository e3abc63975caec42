// What translated code leaves to Swift: the processor counts it, and has it carried out.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor {
  /// Carries out the instruction at RIP.
  func emulate(_ instruction: Instruction) throws(Interruption) {
    counters.count(.exitOther)
    ledger.count(instruction)
    if let trace, trace.subject == .sensitive { trace.note("\(hexadecimal(linearRIP)) \(instruction.mnemonic)") }
    if instruction.operation == .syscall, surroundings.takesSystemCalls {
      rip = nextRIP(instruction)
      hasSystemCall = true
      throw .stop(.stopRequested)
    }
    if instruction.operation == .iret, surroundings.takesSystemCalls, try returnsWithinSegments(instruction) { return }
    guard let change = ModeChange(instruction.operation) else {
      try execute(instruction)
      return
    }
    try control.noting(change) { () throws(Interruption) in try execute(instruction) }
  }

  /// Carries out an instruction without translating it.
  /// - Returns: `false` if it is none of those that Swift carries out.
  package func carryOut(_ instruction: Instruction) throws(Interruption) -> Bool {
    cws_load_x87(block.state)
    defer { cws_save_x87(block.state) }
    try control.establish()
    return try SensitiveInstruction(instruction, in: self).execute()
  }

  private func execute(_ instruction: Instruction) throws(Interruption) {
    guard try SensitiveInstruction(instruction, in: self).execute() else {
      throw .unsupported("instruction \(instruction.mnemonic)")
    }
  }
}

extension ModeChange {
  /// The way that an instruction goes, if helpers may go it, too.
  fileprivate init?(_ operation: Operation) {
    switch operation {
    case .syscall: self = .systemCall
    case .sysret, .iret: self = .returnToUser
    case .clac, .stac: self = .otherAccess
    default: return nil
    }
  }
}
