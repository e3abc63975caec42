// Virtual-8086 mode (AMD64 APM vol. 2, 1.3.5 and 8.10; vol. 3 for each instruction): instructions that IF is about. With IOPL 3 they
// are those of real mode. With a lower one they are #GP, so that a monitor carries them out; or else, with CR4.VME and operands of
// 16 bits, they work on VIF in the place of IF. INT n goes by the program's own vectors where the TSS has a 0 for it.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

struct Virtual8086Instruction<Context: SystemContext> {
  let context: Context
  /// Of what is pushed or popped, in bytes.
  let size: Int

  /// IOPL 3.
  private var isAllowed: Bool { context.flags.ioPrivilege == 3 }

  /// VIF stands for IF.
  /// - Throws: #GP where neither counts.
  private func usesVirtualFlag() throws(Interruption) -> Bool {
    if isAllowed { return false }
    guard size == 2, context.cr4.contains(.virtual8086Extensions) else { throw .exception(.general) }
    return true
  }

  // MARK: Flags

  /// CLI and STI.
  func changeInterrupts(_ isSet: Bool) throws(Interruption) {
    let place: RFLAGS
    if isAllowed {
      place = .interrupt
      if isSet, !context.flags.contains(.interrupt) { context.shadow = .interrupts }
    } else {
      guard context.cr4.contains(.virtual8086Extensions) else { throw .exception(.general) }
      try context.checkVirtualInterrupt(isSet: isSet)
      place = .virtualInterrupt
    }
    if isSet { context.flags.insert(place) } else { context.flags.remove(place) }
  }

  /// As PUSHF and INT n push them.
  private func pushed(isVirtual: Bool) -> RFLAGS {
    var flags = context.flags.subtracting([.resume, .virtual8086])
    guard isVirtual else { return flags }
    flags.insert(.ioPrivilegeLevel)
    flags.remove(.interrupt)
    if flags.contains(.virtualInterrupt) { flags.insert(.interrupt) }
    return flags
  }

  func pushFlags() throws(Interruption) {
    let isVirtual = try usesVirtualFlag()
    try context.push(pushed(isVirtual: isVirtual).rawValue, size: size)
  }

  func popFlags() throws(Interruption) {
    let isVirtual = try usesVirtualFlag()
    let value = RFLAGS(rawValue: try context.peek(0, size: size))
    if isVirtual { try checkPopped(value) }
    context.stackPointer = context.stackPointer &+ UInt64(size)
    setPopped(value, isVirtual: isVirtual, byPOPF: true)
  }

  /// What can't be done to VIF is the monitor's affair.
  private func checkPopped(_ value: RFLAGS) throws(Interruption) {
    if value.contains(.trap) { throw .exception(.general) }
    try context.checkVirtualInterrupt(isSet: value.contains(.interrupt))
  }

  private func setPopped(_ value: RFLAGS, isVirtual: Bool, byPOPF: Bool) {
    context.returnFlags(value, size: size, from: 3, byPOPF: byPOPF)
    guard isVirtual else { return }
    if value.contains(.interrupt) {
      context.flags.insert(.virtualInterrupt)
    } else {
      context.flags.remove(.virtualInterrupt)
    }
  }

  /// IRET.
  func interruptReturn() throws(Interruption) {
    let isVirtual = try usesVirtualFlag()
    let step = UInt64(size)
    let value = RFLAGS(rawValue: try context.peek(2 * step, size: size))
    let code = UInt16(truncatingIfNeeded: try context.peek(step, size: size))
    let offset = try context.peek(0, size: size)
    if isVirtual { try checkPopped(value) }
    guard offset <= UInt64(context.segment(.cs).limit) else { throw .exception(.general) }
    context.stackPointer = context.stackPointer &+ 3 * step
    setPopped(value, isVirtual: isVirtual, byPOPF: false)
    context.blocksNonMaskable = false
    context.enterReal(code, offset)
  }

  // MARK: INT n

  /// - Returns: `false` if the vector goes by the IDT.
  func interrupt(_ vector: UInt8, next: UInt64) throws(Interruption) -> Bool {
    guard context.cr4.contains(.virtual8086Extensions), try !isIntercepted(vector) else {
      guard isAllowed else { throw .exception(.general) }
      return false
    }
    let target = try context.load(UInt64(vector) * 4, size: 4)
    let code = context.segment(.cs)
    guard target & 0xffff <= UInt64(code.limit) else { throw .exception(.general) }
    try context.push([pushed(isVirtual: !isAllowed).rawValue, UInt64(code.selector), next], size: 2)
    context.flags.subtract([.trap, isAllowed ? .interrupt : .virtualInterrupt])
    context.enterReal(UInt16(truncatingIfNeeded: target >> 16), target & 0xffff)
    return true
  }

  /// The redirection bitmap's bit, in the 32 bytes in front of the permission bitmap.
  private func isIntercepted(_ vector: UInt8) throws(Interruption) -> Bool {
    let task = context.task
    guard task.rights.systemType?.isWide == true, task.limit >= TaskStateSegment.lastByte else {
      throw .exception(.general)
    }
    let permissions = try context.loadTable(task.base &+ TaskStateSegment.permissionMap, size: 2)
    let place = permissions &- TaskStateSegment.redirectionMapSize &+ UInt64(vector >> 3)
    guard place <= UInt64(task.limit) else { throw .exception(.general) }
    return try context.loadTable(task.base &+ place, size: 1) >> UInt64(vector & 7) & 1 != 0
  }
}

extension InstructionContext {
  /// VIF is about to be set, or cleared, in the place of IF.
  /// - Throws: #GP where an interrupt waits for VIF: the monitor is to deliver it.
  func checkVirtualInterrupt(isSet: Bool) throws(Interruption) {
    if isSet, flags.contains(.virtualInterruptPending) { throw .exception(.general) }
  }
}
