import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// MOV to and from DRn (AMD64 APM vol. 2, 13.1.1; vol. 3).
struct DebugRegisterMove<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    // General detect: a fault that turns itself off (AMD64 APM vol. 2, 13.1.1.4).
    if DR7(rawValue: context.debug.dr7).contains(.generalDetect) {
      _ = context.debugTrap(.registerAccess)
      throw .exception(.debugGuard)
    }
    let number = try register(instruction.reg)
    let size = context.is64 ? 8 : 4
    if instruction.operation == .movFromDebug {
      context.setGeneral(instruction.registerOfRM, read(number), size: size)
    } else {
      try write(number, context.general(instruction.registerOfRM, size: size))
    }
    context.rip = next
  }

  /// DR4 and DR5 are DR6 and DR7, as long as CR4.DE is 0.
  private func register(_ number: UInt8) throws(Interruption) -> UInt8 {
    guard number == 4 || number == 5 else { return number }
    guard !context.cr4.contains(.debuggingExtensions) else { throw .exception(.invalidOpcode) }
    return number + 2
  }

  private func read(_ number: UInt8) -> UInt64 {
    switch number {
    case 6: context.debug.dr6
    case 7: context.debug.dr7
    default: context.debug.addresses[Int(number)]
    }
  }

  private func write(_ number: UInt8, _ value: UInt64) throws(Interruption) {
    guard number >= 6 else {
      context.debug.addresses[Int(number)] = value
      return
    }
    guard value >> 32 == 0 else { throw .exception(.general) }
    if number == 6 {
      context.debug.dr6 = DR6(written: value).rawValue
    } else {
      context.debug.dr7 = DR7(written: value).rawValue
    }
  }
}
