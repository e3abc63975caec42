import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// INVPCID (AMD64 APM vol. 3).
struct ContextInvalidation<Context: SystemContext> {
  let context: Context

  private enum Kind: UInt64 {
    /// One address in one context; one context; all with global pages; all without.
    case address, context, allWithGlobal, all
  }

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    let kind = Kind(rawValue: context.general(instruction.registerOfReg, size: context.is64 ? 8 : 4))
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let place = try context.linear(memory, next, size: 16, isWrite: false)
    let isStack = memory.segment == .ss
    try context.check(place, count: 16, .read, isStack: isStack)
    let identifier = try context.load(place, size: 8, isStack: isStack)
    let address = try context.load(place &+ 8, size: 8, isStack: isStack)
    guard let kind, identifier >> 12 == 0 else { throw .exception(.general) }
    if kind == .address || kind == .context, identifier != 0, !context.cr4.contains(.processContextIdentifiers) {
      throw .exception(.general)
    }
    switch kind {
    case .address:
      guard LinearAddress.isCanonical(address) else { throw .exception(.general) }
      context.invalidate(.pageOf(address, context: identifier))
    case .context: context.invalidate(.context(identifier))
    case .all: context.invalidate(.allButGlobal)
    case .allWithGlobal: context.invalidate(.all)
    }
    context.rip = next
  }
}
