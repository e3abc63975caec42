import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// RETF and IRET (AMD64 APM vol. 2, 4.11.3 and 8.9; vol. 3).
struct FarReturn<Context: SystemContext> {
  let context: Context
  /// Of what is popped, in bytes.
  let size: Int
  let isInterruptReturn: Bool
  /// RIP of the instruction behind it.
  let next: UInt64

  private var step: UInt64 { UInt64(size) }

  /// - Parameter released: parameters that RETF pops, in bytes.
  func execute(released: UInt64 = 0) throws(Interruption) {
    if isInterruptReturn, context.usesDescriptors, context.flags.contains(.nestedTask) {
      if context.isLongMode { throw .exception(.general) }
      let flags = context.flags.subtracting(.resume)
      try TaskSwitch(context: context, cause: .interruptReturn, next: next, flags: flags).back()
      return
    }
    if isInterruptReturn, context.isVirtual8086 {
      try Virtual8086Instruction(context: context, size: size).interruptReturn()
      return
    }
    // From the top down, as processors do.
    var newFlags: RFLAGS?
    if isInterruptReturn { newFlags = RFLAGS(rawValue: try context.peek(2 * step, size: size)) }
    let selector = Selector(rawValue: UInt16(truncatingIfNeeded: try context.peek(step, size: size)))
    let offset = try context.peek(0, size: size)
    let popped = (isInterruptReturn ? 3 : 2) * step &+ released
    guard context.usesDescriptors else {
      guard offset <= UInt64(context.segment(.cs).limit) else { throw .exception(.general) }
      context.stackPointer = context.stackPointer &+ popped
      finish(newFlags, from: 0)
      context.enterReal(selector.rawValue, offset)
      return
    }
    if let newFlags, newFlags.contains(.virtual8086), !context.isLongMode, context.cpl == 0, size == 4 {
      try enterVirtual8086(selector.rawValue, offset, newFlags)
      return
    }
    let target = try codeSegment(selector, offset)
    let requested = selector.requestedPrivilege
    let privilege = context.cpl
    if requested > privilege || (isInterruptReturn && context.is64) {
      let newStack = try context.peek(popped, size: size)
      let stackSelector = UInt16(truncatingIfNeeded: try context.peek(popped &+ step, size: size))
      let isLong = context.isLongMode && target.rights.contains(.long)
      let newSegment = try stackSegment(Selector(rawValue: stackSelector), requested, toLong: isLong)
      try context.mark(selector, target)
      context.setSegment(.ss, newSegment)
      context.cpl = requested
      // With a 16-bit stack segment the upper part of ESP stays what it was.
      let width = isLong || newSegment.rights.contains(.big) ? 8 : 2
      context.setGeneral(.rsp, newStack &+ (isInterruptReturn ? 0 : released), size: width)
      if requested > privilege { dropInnerSegments() }
    } else {
      try context.mark(selector, target)
      context.stackPointer = context.stackPointer &+ popped
    }
    finish(newFlags, from: privilege)
    context.setSegment(.cs, target.accessedSegment(selector.rawValue))
    context.rip = offset
  }

  /// IRET to virtual-8086 mode: above EFLAGS are ESP and all segment registers.
  private func enterVirtual8086(_ code: UInt16, _ offset: UInt64, _ flags: RFLAGS) throws(Interruption) {
    var words = InlineArray<6, UInt64>(repeating: 0)
    for index in 0..<6 { words[index] = try context.peek(UInt64(3 + index) * step, size: size) }
    guard offset <= 0xffff else { throw .exception(.general) }
    let registers: InlineArray<5, SegmentRegister> = [.ss, .es, .ds, .fs, .gs]
    for index in 0..<5 {
      context.setSegment(registers[index], .virtual8086(UInt16(truncatingIfNeeded: words[index + 1])))
    }
    context.setSegment(.cs, .virtual8086(code))
    context.setGeneral(.rsp, words[0], size: 4)
    context.rip = offset
    context.flags = flags.intersection(.defined).union(.alwaysOne)
    context.cpl = 3
    context.blocksNonMaskable = false
  }

  /// The old privilege decides what may change.
  private func finish(_ newFlags: RFLAGS?, from privilege: UInt8) {
    guard let newFlags else { return }
    context.returnFlags(newFlags, size: size, from: privilege)
    context.blocksNonMaskable = false
  }

  private func codeSegment(_ selector: Selector, _ offset: UInt64) throws(Interruption) -> Descriptor {
    let code = selector.errorCode
    guard !selector.isNull else { throw .exception(.general) }
    let found = try context.descriptor(selector)
    let requested = selector.requestedPrivilege
    guard requested >= context.cpl, found.isCode,
      found.isConforming ? found.privilege <= requested : found.privilege == requested
    else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if context.isLongMode, found.isReservedLong { throw .exception(.general(code)) }
    if context.isLongMode, found.isLong {
      guard LinearAddress.isCanonical(offset) else { throw .exception(.general) }
    } else if offset > UInt64(found.limit) {
      throw .exception(.general)
    }
    return found
  }

  private func stackSegment(
    _ selector: Selector, _ privilege: UInt8, toLong: Bool
  ) throws(Interruption) -> Segment {
    guard !selector.isNull else {
      guard context.isLongMode, toLong, privilege != 3, selector.requestedPrivilege == privilege else {
        throw .exception(.general)
      }
      return .nullStack(selector.rawValue, privilege: privilege)
    }
    let code = selector.errorCode
    let found = try context.descriptor(selector)
    guard selector.requestedPrivilege == privilege, found.rights.isWritable, found.privilege == privilege else {
      throw .exception(.general(code))
    }
    guard found.isPresent else { throw .exception(.stack(code)) }
    try context.mark(selector, found)
    return found.accessedSegment(selector.rawValue)
  }

  /// Data segments that the outer level may not use become null, and null selectors 0, whatever privilege they asked for.
  private func dropInnerSegments() {
    let registers: InlineArray<4, SegmentRegister> = [.ds, .es, .fs, .gs]
    for index in 0..<4 {
      let value = context.segment(registers[index])
      let isForbidden = !value.rights.isConformingCode && value.rights.privilege < context.cpl
      guard value.isNull ? value.selector != 0 : isForbidden else { continue }
      context.setSegment(
        registers[index], Segment(selector: 0, base: value.base, limit: 0, rights: [], isUnusable: true))
    }
  }
}

extension InstructionContext {
  /// What POPF and IRET make of RFLAGS. What they may change depends on the privilege that they run with; RF comes back by
  /// IRET, and is cleared by POPF.
  func returnFlags(_ value: RFLAGS, size: Int, from privilege: UInt8, byPOPF: Bool = false) {
    let old = flags
    var changed = RFLAGS.user
    if !byPOPF { changed.insert(.resume) }
    if privilege == 0 { changed.insert(.ioPrivilegeLevel) }
    if privilege == 0, !byPOPF { changed.formUnion([.virtualInterrupt, .virtualInterruptPending]) }
    if privilege <= old.ioPrivilege { changed.insert(.interrupt) }
    if size == 2 { changed.formIntersection(.low16) }
    var new = old.subtracting(changed).union(value.intersection(changed))
    if byPOPF { new.remove(.resume) }
    flags = new
  }

  /// IRET of a domain's 64-bit code into the segments that it is in: they need no look into tables, of which it has none here.
  /// Linux executes it for each instruction that it patches.
  func returnsWithinSegments(_ instruction: Instruction) throws(Interruption) -> Bool {
    guard is64, instruction.operandSize == 8, !flags.contains(.nestedTask),
      UInt16(truncatingIfNeeded: try peek(8, size: 8)) == segment(.cs).selector,
      UInt16(truncatingIfNeeded: try peek(32, size: 8)) == segment(.ss).selector
    else { return false }
    let target = try peek(0, size: 8)
    guard LinearAddress.isCanonical(target) else { throw .exception(.general) }
    let (newFlags, newStack) = (RFLAGS(rawValue: try peek(16, size: 8)), try peek(24, size: 8))
    self[.rsp] = newStack
    returnFlags(newFlags, size: 8, from: cpl)
    rip = target
    return true
  }
}
