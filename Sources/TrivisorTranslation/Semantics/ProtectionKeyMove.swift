import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// RDPKRU and WRPKRU, which are no privilege (AMD64 APM vol. 3; vol. 2, 5.6.7).
struct ProtectionKeyMove<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.cr4.contains(.protectionKeys) else { throw .exception(.invalidOpcode) }
    guard context.general(.rcx, size: 4) == 0 else { throw .exception(.general) }
    if instruction.operation == .rdpkru {
      context.wideAccumulator = UInt64(context.pkru.rawValue)
    } else {
      guard context.general(.rdx, size: 4) == 0 else { throw .exception(.general) }
      context.pkru = PKRU(rawValue: UInt32(truncatingIfNeeded: context[.rax]))
    }
    context.rip = next
  }
}
