import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Instructions that ask what a selector is good for: LAR, LSL, VERR, VERW and ARPL (AMD64 APM vol. 3).
struct SelectorQuery<Context: InstructionContext> {
  let context: Context

  /// There are no such instructions in real and virtual-8086 mode.
  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.usesDescriptors else { throw .exception(.invalidOpcode) }
    let operand = try context.readRM(instruction, next, size: 2)
    let selector = Selector(rawValue: UInt16(truncatingIfNeeded: operand))
    switch instruction.operation {
    case .arpl: try adjustPrivilege(of: operand, instruction, next: next)
    case .lar, .lsl: try loadRights(selector, instruction)
    default: try verify(selector, isWrite: instruction.operation == .verw)
    }
    context.rip = next
  }

  private func setZero(_ isSet: Bool) {
    var flags = context.arithmeticFlags
    if isSet { flags.insert(.zero) } else { flags.remove(.zero) }
    context.arithmeticFlags = flags
  }

  /// ARPL.
  private func adjustPrivilege(of old: UInt64, _ instruction: Instruction, next: UInt64) throws(Interruption) {
    let source = context.general(instruction.registerOfReg, size: 2)
    let isRaised = old & 3 < source & 3
    let new = old & ~3 | source & 3
    if let memory = instruction.memoryOperand {
      if isRaised { try context.save(try context.linear(memory, next, size: 2, isWrite: true), new, size: 2) }
    } else if isRaised {
      context.setGeneral(instruction.registerOfRM, new, size: 2)
    }
    setZero(isRaised)
  }

  /// What the selector means to code of this privilege; `nil` for what these instructions answer with ZF = 0.
  private func visibleDescriptor(_ selector: Selector) throws(Interruption) -> Descriptor? {
    guard !selector.isNull, context.hasDescriptor(selector) else { return nil }
    let found = try context.descriptor(selector, outside: .general)
    if found.rights.isConformingCode { return found }
    return found.privilege >= max(context.cpl, selector.requestedPrivilege) ? found : nil
  }

  /// LAR and LSL.
  private func loadRights(_ selector: Selector, _ instruction: Instruction) throws(Interruption) {
    let isLimit = instruction.operation == .lsl
    guard let found = try visibleDescriptor(selector), !found.isSystem || knows(found.systemType, isLimit: isLimit)
    else {
      setZero(false)
      return
    }
    let value = isLimit ? UInt64(found.limit) : found.low.accessRights
    context.setGeneral(instruction.registerOfReg, value, size: Int(instruction.operandSize))
    setZero(true)
  }

  /// The system descriptors that LAR and LSL know.
  private func knows(_ type: SystemSegmentType?, isLimit: Bool) -> Bool {
    switch type {
    case .localDescriptorTable?, .availableTask?, .busyTask?: true
    case .callGate?: !isLimit
    case .availableTask16?, .busyTask16?: !context.isLongMode
    case .callGate16?, .taskGate?: !context.isLongMode && !isLimit
    default: false
    }
  }

  /// VERR and VERW.
  private func verify(_ selector: Selector, isWrite: Bool) throws(Interruption) {
    guard let found = try visibleDescriptor(selector) else {
      setZero(false)
      return
    }
    setZero(isWrite ? found.rights.isWritable : found.rights.isReadable)
  }
}
