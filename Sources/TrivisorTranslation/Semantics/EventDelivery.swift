// Exceptions and interrupts on their way to the guest's handlers: the vector table of far pointers in real mode, IDT gates,
// the change of privilege and stack, the frame (AMD64 APM vol. 2, 8.6 to 8.9).
//
// Everything that can fail comes before anything that changes.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// What is to be delivered.
struct GuestEvent {
  let vector: UInt8
  /// For the vectors that push one.
  var errorCode: UInt32?
  /// As the frame is to have them.
  let flags: RFLAGS
  /// By INT n, INT3 or INTO: the gate's privilege counts.
  let isSoftware: Bool
  let returnRIP: UInt64

  /// Bit 0 of error codes that tell of a segment (EXT): it came from outside of the instruction.
  var external: UInt32 { isSoftware ? 0 : 1 }
  /// The error code about the gate: its index, and that it is the IDT's.
  var gateCode: UInt32 { UInt32(vector) << 3 | 2 | external }
}

struct EventDelivery<Context: SystemContext> {
  let context: Context

  /// Goes through the IDT. Nothing has changed when it throws.
  func deliver(_ event: GuestEvent) throws(Interruption) {
    let source = context.rip
    if !context.isProtected {
      try deliverReal(event)
    } else if !context.isLongMode {
      try deliverProtected(event)
    } else {
      try deliverLong(event)
    }
    context.shadow = .none
    if event.vector != ExceptionVector.debug.rawValue {
      context.branchRecord.noteInterrupt(from: source, to: context.rip)
    }
  }

  /// Through the table of far pointers.
  private func deliverReal(_ event: GuestEvent) throws(Interruption) {
    let table = context.idt
    let place = UInt64(event.vector) * 4
    guard place + 3 <= UInt64(table.limit) else { throw .exception(.general(event.gateCode)) }
    let target = try context.loadTable(table.base &+ place, size: 4)
    let code = context.segment(.cs)
    guard target & 0xffff <= UInt64(code.limit) else { throw .exception(.general) }
    try context.push([event.flags.rawValue, UInt64(code.selector), event.returnRIP], size: 2)
    context.flags.subtract([.interrupt, .trap, .resume, .alignmentCheck])
    context.enterReal(UInt16(truncatingIfNeeded: target >> 16), target & 0xffff)
  }

  // MARK: Gates

  /// Reads the gate and checks it.
  private func gate(_ event: GuestEvent, isLong: Bool) throws(Interruption) -> (Descriptor, SystemSegmentType) {
    let table = context.idt
    let size: UInt64 = isLong ? 16 : 8
    let place = UInt64(event.vector) * size
    guard place + size - 1 <= UInt64(table.limit) else { throw .exception(.general(event.gateCode)) }
    var gate = Descriptor(low: try context.loadTable(table.base &+ place, size: 8))
    if isLong { gate.high = try context.loadTable(table.base &+ place &+ 8, size: 8) }
    guard let type = gate.systemType, isGate(type, isLong: isLong) else {
      throw .exception(.general(event.gateCode))
    }
    if event.isSoftware, gate.privilege < context.cpl { throw .exception(.general(event.gateCode)) }
    guard gate.isPresent else { throw .exception(.notPresent(event.gateCode)) }
    return (gate, type)
  }

  private func isGate(_ type: SystemSegmentType, isLong: Bool) -> Bool {
    switch type {
    case .interruptGate, .trapGate: true
    case .taskGate, .interruptGate16, .trapGate16: !isLong
    default: false
    }
  }

  /// The handler's code segment, and the privilege that it runs with.
  private func handler(
    _ selector: Selector, _ event: GuestEvent, isLong: Bool
  ) throws(Interruption) -> (Descriptor, UInt8) {
    guard !selector.isNull else { throw .exception(.general(event.external)) }
    let code = selector.errorCode | event.external
    let found = try context.descriptor(selector, outside: .general(code))
    guard found.isCode, found.privilege <= context.cpl else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLong, !found.isLong || found.isReservedLong { throw .exception(.general(code)) }
    return (found, found.isConforming ? context.cpl : found.privilege)
  }

  /// CS, RIP and RFLAGS of the handler.
  private func enter(
    _ code: Descriptor, _ selector: Selector, privilege: UInt8, _ target: UInt64, through type: SystemSegmentType
  ) {
    context.setSegment(.cs, code.accessedSegment(selector.with(privilege: privilege)))
    context.rip = target
    var cleared: RFLAGS = [.trap, .nestedTask, .resume, .virtual8086]
    if type == .interruptGate || type == .interruptGate16 { cleared.insert(.interrupt) }
    context.flags.subtract(cleared)
  }

  /// Through a gate of the legacy IDT.
  private func deliverProtected(_ event: GuestEvent) throws(Interruption) {
    let (gate, type) = try gate(event, isLong: false)
    if type == .taskGate {
      let cause = TaskSwitch<Context>.Cause.event(errorCode: event.errorCode, external: event.external)
      let change = TaskSwitch(context: context, cause: cause, next: event.returnRIP, flags: event.flags)
      try change.perform(gate.gateSelector)
      return
    }
    let isVirtual = context.isVirtual8086
    let target = type.isWide ? gate.gateOffset : gate.gateOffset & 0xffff
    let selector = gate.gateSelector
    let (code, privilege) = try handler(selector, event, isLong: false)
    // Only the innermost level can handle what virtual-8086 code does.
    if isVirtual, privilege != 0 { throw .exception(.general(selector.errorCode | event.external)) }
    let changesStack = privilege != context.cpl
    let (old, pointer) = (context.segment(.ss), context[.rsp])
    let stacks = InnerStack(context: context)
    let stack =
      changesStack
      ? try stacks.legacy(privilege, external: event.external)
      : TargetStack(segment: old, pointer: pointer, fault: .stack(event.external))
    guard target <= UInt64(code.limit) else { throw .exception(.general(event.external)) }
    var frame = StackFrame<10>()
    let outer: InlineArray<4, SegmentRegister> = [.gs, .fs, .ds, .es]
    if isVirtual {
      for index in 0..<4 { frame.append(UInt64(context.segment(outer[index]).selector)) }
    }
    if changesStack {
      frame.append(UInt64(old.selector))
      frame.append(pointer)
    }
    frame.append(event.flags.rawValue)
    frame.append(UInt64(context.segment(.cs).selector))
    frame.append(event.returnRIP)
    if let errorCode = event.errorCode { frame.append(UInt64(errorCode)) }
    try context.mark(selector, code)
    // The new stack is a segment with a descriptor.
    if isVirtual { context.flags.remove(.virtual8086) }
    let top: UInt64
    do throws(Interruption) {
      top = try stacks.push(frame, size: type.isWide ? 4 : 2, on: stack, privilege: privilege)
    } catch {
      if isVirtual { context.flags.insert(.virtual8086) }
      throw error
    }
    context.setSegment(.ss, stack.segment)
    context.setGeneral(.rsp, top, size: stack.size)
    if isVirtual {
      for index in 0..<4 {
        context.setSegment(outer[index], Segment(selector: 0, base: 0, limit: 0, rights: [], isUnusable: true))
      }
    }
    enter(code, selector, privilege: privilege, target, through: type)
  }

  /// Through a gate of long mode's IDT.
  private func deliverLong(_ event: GuestEvent) throws(Interruption) {
    let (gate, type) = try gate(event, isLong: true)
    let selector = gate.gateSelector
    let (code, privilege) = try handler(selector, event, isLong: true)
    let changesStack = privilege != context.cpl
    let pointer = context[.rsp]
    let stackNumber = gate.low.interruptStack
    var stack: UInt64
    if stackNumber != 0 {
      stack = try InnerStack(context: context).pointer64(at: TaskStateSegment.interruptStack(stackNumber))
    } else {
      stack = changesStack ? try InnerStack(context: context).pointer64(privilege) : pointer
    }
    stack &= ~15
    guard LinearAddress.isCanonical(gate.gateOffset) else { throw .exception(.general(event.external)) }
    try context.mark(selector, code)
    let hasErrorCode = event.errorCode != nil
    // From the lowest word on; the error code is left out where there is none.
    let frame: InlineArray<6, UInt64> = [
      UInt64(event.errorCode ?? 0), event.returnRIP, UInt64(context.segment(.cs).selector), event.flags.rawValue,
      pointer, UInt64(context.segment(.ss).selector),
    ]
    let size = hasErrorCode ? 48 : 40
    let base = stack &- UInt64(size)
    try withUnsafeBytes(of: frame) { bytes throws(Interruption) in
      try context.saveBytes(
        base, from: UnsafeRawBufferPointer(rebasing: bytes[(48 - size)...]), isStack: true,
        asSupervisor: privilege != 3)
    }
    context[.rsp] = base
    if changesStack {
      context.cpl = privilege
      context.setSegment(.ss, .nullStack(UInt16(privilege), privilege: privilege))
    }
    enter(code, selector, privilege: privilege, gate.gateOffset, through: type)
  }
}
