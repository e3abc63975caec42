// Hardware's task switch (AMD64 APM vol. 2, 12.3): the registers go to the TSS of the task that runs, and come from another one's.
//
//     check the new TSS's descriptor, and that both TSSs can be reached      a fault is the old task's
//     store the old registers; busy bits, the back link, NT; TR, CR0.TS      none of it faults
//     load the new registers; CR3, LDTR, the segments                        a fault is the new task's
//     push the error code of the exception that led here                     the same
//
// What a register's selector is worth is known only when its descriptor was read. So all of them get their selectors first, without
// anything behind, and one that is wrong leaves itself and those after it so.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

struct TaskSwitch<Context: SystemContext> {
  /// What leads to another task.
  enum Cause: Equatable {
    case jump, call
    /// A task gate of the IDT.
    case event(errorCode: UInt32?, external: UInt32)
    /// IRET with RFLAGS.NT.
    case interruptReturn

    /// The old task goes on when the new one returns.
    var nests: Bool {
      switch self {
      case .call, .event: true
      case .jump, .interruptReturn: false
      }
    }

    /// Bit 0 of error codes.
    var external: UInt32 { if case .event(_, let external) = self { external } else { 0 } }
  }

  let context: Context
  let cause: Cause
  /// Where the old task goes on.
  let next: UInt64
  /// As the old task's TSS is to have them.
  let flags: RFLAGS

  /// Registers as a TSS has them, of either width.
  private struct Registers {
    var cr3: UInt64?
    var rip: UInt64 = 0
    var flags: RFLAGS = []
    var general = InlineArray<8, UInt64>(repeating: 0)
    var selectors = InlineArray<6, UInt16>(repeating: 0)
    var localTable: UInt16 = 0
    /// T: #DB when the switch is complete.
    var traps = false
  }

  /// To the task that the current TSS's back link names.
  func back() throws(Interruption) {
    let link = try context.loadTable(context.task.base, size: 2)
    try perform(Selector(rawValue: UInt16(truncatingIfNeeded: link)))
  }

  /// To the task that a selector names.
  func perform(_ selector: Selector) throws(Interruption) {
    let (old, new) = (context.task, try target(selector))
    let (isWide, wasWide) = (new.systemType?.isWide == true, old.rights.systemType?.isWide == true)
    try checkReach(old: old, wasWide: wasWide, new, selector, isWide: isWide)
    // From here on nothing faults until the new registers are there.
    if !cause.nests { try setBusy(Selector(rawValue: old.selector), false) }
    try store(to: old.base, isWide: wasWide)
    var registers = try load(from: new.base, isWide: isWide)
    if cause.nests {
      try context.save(new.base, UInt64(old.selector), size: 2, asSupervisor: true)
      registers.flags.insert(.nestedTask)
    }
    if cause != .interruptReturn { try setBusy(selector, true) }
    var task = new.segment(selector.rawValue)
    task.rights.insert(.busy)
    context.task = task
    context.set(cr0: context.cr0.union(.taskSwitched), efer: context.efer)
    context.debug.dr7 &= ~DR7.localEnables.rawValue
    context.isTrapping = false
    try enter(registers, isWide: isWide)
  }

  // MARK: The old task

  /// The new TSS's descriptor, if it is one that this cause may lead to.
  private func target(_ selector: Selector) throws(Interruption) -> Descriptor {
    let code = selector.errorCode | cause.external
    let wrong: GuestException = cause == .interruptReturn ? .invalidTask(code) : .general(code)
    guard !selector.isNull, !selector.isLocal else { throw .exception(wrong) }
    let found = try context.descriptor(selector, outside: wrong)
    let isRight =
      switch found.systemType {
      case .availableTask?, .availableTask16?: cause != .interruptReturn
      case .busyTask?, .busyTask16?: cause == .interruptReturn
      default: false
      }
    guard isRight else { throw .exception(wrong) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    guard found.limit >= Self.lastByte(isWide: found.systemType?.isWide == true) else {
      throw .exception(.invalidTask(code))
    }
    return found
  }

  private static func lastByte(isWide: Bool) -> UInt32 {
    isWide ? TaskStateSegment.lastByte : TaskStateSegment.lastByte16
  }

  /// Whether all that is about to be read and written can be.
  private func checkReach(
    old: Segment, wasWide: Bool, _ new: Descriptor, _ selector: Selector, isWide: Bool
  ) throws(Interruption) {
    func check(_ base: UInt64, _ count: Int, _ access: MemoryAccess) throws(Interruption) {
      try context.check(base & 0xffff_ffff, count: count, access, isStack: false, asSupervisor: true)
    }
    guard old.limit >= Self.lastByte(isWide: wasWide) else {
      throw .exception(.invalidTask(Selector(rawValue: old.selector).errorCode | cause.external))
    }
    try check(old.base, Int(Self.lastByte(isWide: wasWide)) + 1, .write)
    try check(new.base, Int(Self.lastByte(isWide: isWide)) + 1, cause.nests ? .write : .read)
    if cause != .interruptReturn { try check(busyPlace(selector), 1, .write) }
    if !cause.nests { try check(busyPlace(Selector(rawValue: old.selector)), 1, .write) }
  }

  /// The byte of a TSS's descriptor that has the busy bit.
  private func busyPlace(_ selector: Selector) -> UInt64 {
    context.gdt.base &+ UInt64(selector.offset) &+ SegmentDescriptor.attributesOffset
  }

  private func setBusy(_ selector: Selector, _ isBusy: Bool) throws(Interruption) {
    let (place, bit) = (busyPlace(selector), UInt64(SegmentAttributes.busy.rawValue))
    let value = try context.loadTable(place, size: 1)
    try context.save(place, isBusy ? value | bit : value & ~bit, size: 1, asSupervisor: true)
  }

  private func store(to base: UInt64, isWide: Bool) throws(Interruption) {
    let layout = TaskStateSegment.Registers(isWide: isWide)
    let size = isWide ? 4 : 2
    let saved = cause == .interruptReturn ? flags.subtracting(.nestedTask) : flags
    func save(_ offset: UInt64, _ value: UInt64, size: Int) throws(Interruption) {
      try context.save(base &+ offset, value, size: size, asSupervisor: true)
    }
    try save(layout.instructionPointer, next, size: size)
    try save(layout.flags, saved.rawValue, size: size)
    for number in 0..<8 {
      let register = GeneralRegister(rawValue: UInt8(number)) ?? .rax
      try save(layout.general + UInt64(number * size), context.general(register, size: size), size: size)
    }
    for number in 0..<layout.segmentCount {
      let register = SegmentRegister(rawValue: UInt8(number)) ?? .es
      try save(layout.segments + UInt64(number * size), UInt64(context.segment(register).selector), size: 2)
    }
  }

  // MARK: The new task

  private func load(from base: UInt64, isWide: Bool) throws(Interruption) -> Registers {
    let layout = TaskStateSegment.Registers(isWide: isWide)
    let size = isWide ? 4 : 2
    func word(_ offset: UInt64, size: Int) throws(Interruption) -> UInt64 {
      try context.loadTable(base &+ offset, size: size)
    }
    var registers = Registers()
    if let place = layout.pageTables { registers.cr3 = try word(place, size: 4) }
    registers.rip = try word(layout.instructionPointer, size: size)
    registers.flags = RFLAGS(rawValue: try word(layout.flags, size: size)).intersection(.defined)
    for number in 0..<8 { registers.general[number] = try word(layout.general + UInt64(number * size), size: size) }
    for number in 0..<layout.segmentCount {
      let selector = try word(layout.segments + UInt64(number * size), size: 2)
      registers.selectors[number] = UInt16(truncatingIfNeeded: selector)
    }
    registers.localTable = UInt16(truncatingIfNeeded: try word(layout.localTable, size: 2))
    if let place = layout.trap { registers.traps = try word(place, size: 1) & 1 != 0 }
    return registers
  }

  private func enter(_ registers: Registers, isWide: Bool) throws(Interruption) {
    for number in 0..<8 {
      guard let register = GeneralRegister(rawValue: UInt8(number)) else { continue }
      context.setGeneral(register, registers.general[number], size: isWide ? 4 : 2)
    }
    context.flags = registers.flags.union(.alwaysOne)
    context.rip = registers.rip
    for number in 0..<6 {
      guard let register = SegmentRegister(rawValue: UInt8(number)) else { continue }
      let privilege = UInt8(truncatingIfNeeded: registers.selectors[number] & 3)
      var rights = register == .cs ? SegmentAttributes.realCode : .flatData()
      rights.privilege = privilege
      context.setSegment(
        register,
        Segment(selector: registers.selectors[number], base: 0, limit: 0, rights: rights, isUnusable: true))
    }
    context.localTable = Segment(selector: registers.localTable, base: 0, limit: 0, rights: [], isUnusable: true)
    let isVirtual = registers.flags.contains(.virtual8086)
    context.cpl = isVirtual ? 3 : UInt8(truncatingIfNeeded: registers.selectors[Int(SegmentRegister.cs.rawValue)] & 3)
    if let cr3 = registers.cr3, context.cr0.contains(.paging) { try setPageTables(cr3) }
    try loadLocalTable(Selector(rawValue: registers.localTable))
    if isVirtual {
      for number in 0..<6 {
        guard let register = SegmentRegister(rawValue: UInt8(number)) else { continue }
        context.setSegment(register, .virtual8086(registers.selectors[number]))
      }
    } else {
      try loadSegments(registers)
    }
    if case .event(let errorCode?, _) = cause {
      do throws(Interruption) {
        try context.push(UInt64(errorCode), size: isWide ? 4 : 2)
      } catch {
        throw error.exception?.vector == ExceptionVector.stack.rawValue ? .exception(.stack(cause.external)) : error
      }
    }
    guard context.rip <= UInt64(context.segment(.cs).limit) else { throw .exception(.general(cause.external)) }
    if registers.traps { throw .exception(context.debugTrap(.taskSwitch)) }
  }

  private func setPageTables(_ cr3: UInt64) throws(Interruption) {
    if context.cr4.contains(.physicalAddressExtension) {
      do throws(GuestException) { try context.loadPointerTable(from: cr3) } catch { throw .exception(error) }
    }
    context.set(cr3: cr3, keepsTranslations: false)
  }

  /// A fault of one of the new task's selectors.
  private func invalid(_ selector: Selector) -> Interruption {
    .exception(.invalidTask(selector.errorCode | cause.external))
  }

  private func loadLocalTable(_ selector: Selector) throws(Interruption) {
    guard !selector.isNull else { return }
    let code = selector.errorCode | cause.external
    guard !selector.isLocal else { throw invalid(selector) }
    let found = try context.descriptor(selector, outside: .invalidTask(code))
    guard found.systemType == .localDescriptorTable, found.isPresent else { throw invalid(selector) }
    context.localTable = found.segment(selector.rawValue)
  }

  /// CS, SS, then the others, as `SegmentLoad` and far transfers load them, but that what is wrong is #TS.
  private func loadSegments(_ registers: Registers) throws(Interruption) {
    let cpl = context.cpl
    func found(_ register: SegmentRegister) throws(Interruption) -> (Selector, Descriptor)? {
      let selector = Selector(rawValue: registers.selectors[Int(register.rawValue)])
      guard !selector.isNull else { return nil }
      return (
        selector, try context.descriptor(selector, outside: .invalidTask(selector.errorCode | cause.external))
      )
    }
    func accept(_ register: SegmentRegister, _ selector: Selector, _ value: Descriptor) throws(Interruption) {
      try context.mark(selector, value)
      context.setSegment(register, value.accessedSegment(selector.rawValue))
    }
    guard let (code, target) = try found(.cs) else { throw invalid(Selector(rawValue: 0)) }
    guard target.isCode, target.isConforming ? target.privilege <= cpl : target.privilege == cpl else {
      throw invalid(code)
    }
    guard target.isPresent else { throw .exception(.notPresent(code.errorCode | cause.external)) }
    try accept(.cs, code, target)
    guard let (stack, stackSegment) = try found(.ss) else { throw invalid(Selector(rawValue: 0)) }
    guard stackSegment.rights.isWritable, stackSegment.privilege == cpl, stack.requestedPrivilege == cpl else {
      throw invalid(stack)
    }
    guard stackSegment.isPresent else { throw .exception(.stack(stack.errorCode | cause.external)) }
    try accept(.ss, stack, stackSegment)
    let others: InlineArray<4, SegmentRegister> = [.ds, .es, .fs, .gs]
    for index in others.indices {
      guard let (selector, data) = try found(others[index]) else { continue }
      guard data.rights.isReadable,
        data.rights.isConformingCode || data.privilege >= max(cpl, selector.requestedPrivilege)
      else { throw invalid(selector) }
      guard data.isPresent else { throw .exception(.notPresent(selector.errorCode | cause.external)) }
      try accept(others[index], selector, data)
    }
  }
}
