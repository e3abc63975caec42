import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Words that are about to be pushed, the first one first.
struct StackFrame<let capacity: Int> {
  private var words = InlineArray<capacity, UInt64>(repeating: 0)
  private(set) var count = 0

  mutating func append(_ word: UInt64) {
    words[count] = word
    count += 1
  }

  subscript(index: Int) -> UInt64 { words[index] }
}

/// A stack that is about to be used outside long mode.
struct TargetStack {
  var segment: Segment
  var pointer: UInt64
  /// What a push beyond its limit raises.
  let fault: GuestException

  /// Width of its pointer in bytes.
  var size: Int { segment.rights.contains(.big) ? 4 : 2 }
}

/// The stacks that the TSS holds for inner levels (AMD64 APM vol. 2, 12.2.5 and 12.2.6).
struct InnerStack<Context: InstructionContext> {
  let context: Context

  /// Of the long mode's TSS, for a privilege.
  func pointer64(_ privilege: UInt8) throws(Interruption) -> UInt64 {
    try pointer64(at: TaskStateSegment.stack64(privilege))
  }

  /// Of the long mode's TSS, at an offset.
  func pointer64(at offset: UInt64) throws(Interruption) -> UInt64 {
    let task = context.task
    guard offset + 7 <= UInt64(task.limit) else {
      throw .exception(.invalidTask(Selector(rawValue: task.selector).errorCode))
    }
    let stack = try context.loadTable(task.base &+ offset, size: 8)
    guard LinearAddress.isCanonical(stack) else { throw .exception(.stack(0)) }
    return stack
  }

  /// SS and the stack pointer for a privilege outside long mode.
  /// - Parameter external: bit 0 of error codes: the event came from outside of the instruction.
  func legacy(_ privilege: UInt8, external: UInt32) throws(Interruption) -> TargetStack {
    let task = context.task
    let isWide = task.rights.systemType?.isWide == true
    let place = isWide ? TaskStateSegment.stack32(privilege) : TaskStateSegment.stack16(privilege)
    guard place + (isWide ? 5 : 3) <= UInt64(task.limit) else {
      throw .exception(.invalidTask(Selector(rawValue: task.selector).errorCode | external))
    }
    let base = task.base &+ place
    let pointer = try context.loadTable(base, size: isWide ? 4 : 2)
    let value = UInt16(truncatingIfNeeded: try context.loadTable(base &+ (isWide ? 4 : 2), size: 2))
    let selector = Selector(rawValue: value)
    guard !selector.isNull else { throw .exception(.invalidTask(external)) }
    let code = selector.errorCode | external
    let found = try context.descriptor(selector, outside: .invalidTask(code))
    guard selector.requestedPrivilege == privilege, found.privilege == privilege, found.rights.isWritable else {
      throw .exception(.invalidTask(code))
    }
    guard found.isPresent else { throw .exception(.stack(code)) }
    try context.mark(selector, found)
    return TargetStack(segment: found.accessedSegment(value), pointer: pointer, fault: .stack(code))
  }

  /// Pushes with the rights of `privilege`, which is CPL from then on; checks all words before it stores one.
  /// - Returns: the new stack pointer.
  func push<let capacity: Int>(
    _ frame: StackFrame<capacity>, size: Int, on stack: TargetStack, privilege: UInt8
  ) throws(Interruption) -> UInt64 {
    let oldPrivilege = context.cpl
    context.cpl = privilege
    func pointer(_ index: Int) -> UInt64 { (stack.pointer &- UInt64((index + 1) * size)).cut(to: stack.size) }
    func place(_ index: Int) -> UInt64 { (pointer(index) &+ stack.segment.base) & 0xffff_ffff }
    do throws(Interruption) {
      for index in 0..<frame.count {
        try context.checkSegment(stack.segment, pointer(index), size: size, isWrite: true, fault: stack.fault)
        try context.check(place(index), count: size, .write, isStack: true)
      }
      for index in 0..<frame.count {
        try context.save(place(index), frame[index], size: size, isStack: true)
      }
      return frame.count == 0 ? stack.pointer : pointer(frame.count - 1)
    } catch {
      context.cpl = oldPrivilege
      throw error
    }
  }
}
