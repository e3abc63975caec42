import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Loads of segment registers other than CS (AMD64 APM vol. 2, 4.5.3 and 4.10; vol. 3, "MOV", "LDS", "LLDT", "LTR").
struct SegmentLoad<Context: InstructionContext> {
  let context: Context

  /// MOV and POP to a segment register other than CS.
  func load(_ register: SegmentRegister, _ value: UInt16) throws(Interruption) {
    let selector = Selector(rawValue: value)
    guard context.usesDescriptors else {
      var segment = context.segment(register)
      // Limit and rights stay: "unreal mode" lives on it.
      segment.selector = value
      segment.base = UInt64(value) << 4
      segment.isUnusable = false
      context.setSegment(register, segment)
      return
    }
    guard !selector.isNull else {
      try loadNull(register, selector)
      return
    }
    let found = try context.descriptor(selector)
    let code = selector.errorCode
    let (requested, cpl) = (selector.requestedPrivilege, context.cpl)
    if register == .ss {
      guard requested == cpl, found.rights.isWritable, found.privilege == cpl else {
        throw .exception(.general(code))
      }
      guard found.isPresent else { throw .exception(.stack(code)) }
    } else {
      guard found.rights.isReadable else { throw .exception(.general(code)) }
      if !found.rights.isConformingCode, max(requested, cpl) > found.privilege { throw .exception(.general(code)) }
      guard found.isPresent else { throw .exception(.notPresent(code)) }
    }
    try context.mark(selector, found)
    context.setSegment(register, found.accessedSegment(value))
  }

  private func loadNull(_ register: SegmentRegister, _ selector: Selector) throws(Interruption) {
    if register == .ss {
      let cpl = context.cpl
      guard context.is64, cpl != 3, selector.requestedPrivilege == cpl else { throw .exception(.general) }
      context.setSegment(.ss, .nullStack(selector.rawValue, privilege: cpl))
      return
    }
    // The base is cleared, as CPUID says (AMD64 APM vol. 3, E.4.21, NullSelectorClearsBase).
    context.setSegment(
      register, Segment(selector: selector.rawValue, base: 0, limit: 0, rights: [], isUnusable: true))
  }

  /// LLDT and LTR.
  func loadSystem(_ value: UInt16, isTask: Bool) throws(Interruption) {
    let selector = Selector(rawValue: value)
    guard !selector.isNull else {
      if isTask { throw .exception(.general) }
      context.localTable = Segment(selector: value, base: 0, limit: 0, rights: [], isUnusable: true)
      return
    }
    let code = selector.errorCode
    guard !selector.isLocal else { throw .exception(.general(code)) }
    let found = try context.descriptor(selector, isWide: context.isLongMode)
    let isRight =
      switch found.systemType {
      case .availableTask?: isTask
      case .availableTask16?: isTask && !context.isLongMode
      case .localDescriptorTable?: !isTask
      default: false
      }
    guard isRight else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if context.isLongMode, !LinearAddress.isCanonical(found.base) { throw .exception(.general(code)) }
    var segment = found.segment(value)
    if isTask {
      try context.mark(selector, found, .busy)
      segment.rights.insert(.busy)
      context.task = segment
    } else {
      context.localTable = segment
    }
  }

  /// LDS, LES, LFS, LGS and LSS.
  func loadFarPointer(
    _ register: SegmentRegister, _ instruction: Instruction, next: UInt64
  ) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let size = Int(instruction.operandSize)
    let (offset, selector) = try context.loadPair(memory, next, size: size, secondSize: 2)
    try load(register, UInt16(truncatingIfNeeded: selector))
    context.setGeneral(instruction.registerOfReg, offset, size: size)
  }
}
