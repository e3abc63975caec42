import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Instructions that push and pop more, or something else, than a general register: PUSHA, POPA, ENTER, POP to memory, PUSH and
/// POP of a segment register (AMD64 APM vol. 3).
struct StackInstruction<Context: InstructionContext> {
  private let context: Context
  private let instruction: Instruction
  private let next: UInt64
  /// Of what is pushed, in bytes.
  private let size: Int

  init(_ instruction: Instruction, next: UInt64, in context: Context) {
    self.context = context
    self.instruction = instruction
    self.next = next
    size = Int(instruction.operandSize)
  }

  func execute() throws(Interruption) {
    switch instruction.operation {
    case .pusha: try pushAll()
    case .popa: try popAll()
    case .enter: try enter()
    case .pop: try popMemory()
    case .pushSegment: try context.push(UInt64(context.segment(try segment()).selector), size: size)
    default: try popSegment(try segment())
    }
    context.rip = next
  }

  private func segment() throws(Interruption) -> SegmentRegister {
    guard case .segment(let register)? = instruction.operand(at: 0)?.kind else { throw .exception(.invalidOpcode) }
    return register
  }

  private func pushAll() throws(Interruption) {
    var values = InlineArray<8, UInt64>(repeating: 0)
    for number in 0..<8 {
      values[number] = context.general(GeneralRegister(rawValue: UInt8(number)) ?? .rax, size: size)
    }
    try context.push(values, size: size)
  }

  /// SP is read over. What was popped before a fault stays, as processors leave it.
  private func popAll() throws(Interruption) {
    for index in 0..<8 {
      let value = try context.peek(UInt64(index * size), size: size)
      guard let register = GeneralRegister(rawValue: UInt8(7 - index)), register != .rsp else { continue }
      context.setGeneral(register, value, size: size)
    }
    context.stackPointer = context.stackPointer &+ UInt64(8 * size)
  }

  private func popSegment(_ register: SegmentRegister) throws(Interruption) {
    let value = try context.peek(0, size: size)
    // A new SS may have another width of stack pointer.
    let width = context.stackSize
    try SegmentLoad(context: context).load(register, UInt16(truncatingIfNeeded: value))
    context.setGeneral(.rsp, context.general(.rsp, size: width) &+ UInt64(size), size: width)
    if register == .ss { context.shadow = .everything }
  }

  /// POP to memory: an address that RSP is part of is formed with RSP as it is afterwards.
  private func popMemory() throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .unsupported("instruction \(instruction.mnemonic)") }
    let value = try context.peek(0, size: size)
    let old = context[.rsp]
    context.stackPointer = context.stackPointer &+ UInt64(size)
    do throws(Interruption) {
      try context.save(try context.linear(memory, next, size: size, isWrite: true), value, size: size)
    } catch {
      context[.rsp] = old
      throw error
    }
  }

  /// ENTER. What has been pushed stays in memory when a later access faults, as on AMD's processors.
  private func enter() throws(Interruption) {
    let level = Int(instruction.secondImmediate & 31)
    let top = context.stackPointer
    let pushes = level == 0 ? 1 : level + 1
    let end = size * pushes + Int(instruction.immediate & 0xffff)
    let oldFrame = context[.rbp]
    // All of RSP goes to RBP, though only a part of it counts.
    let oldPointer = context[.rsp]
    context.stackPointer = top &- UInt64(size)
    let frame = context[.rsp]
    context[.rsp] = oldPointer
    func place(_ distance: Int) throws(Interruption) -> UInt64 {
      let offset = (top &- UInt64(distance)).cut(to: context.stackSize)
      return try context.address(.ss, offset, size: size, isWrite: true)
    }
    func outerFrame(_ index: Int) throws(Interruption) -> UInt64 {
      let offset = (oldFrame &- UInt64(index * size)).cut(to: context.stackSize)
      return try context.address(.ss, offset, size: size, isWrite: false)
    }
    try context.save(try place(size), oldFrame.cut(to: size), size: size, isStack: true)
    for index in stride(from: 1, to: level, by: 1) {
      let pointer = try context.load(try outerFrame(index), size: size, isStack: true)
      try context.save(try place((index + 1) * size), pointer, size: size, isStack: true)
    }
    if level > 0 {
      try context.save(try place(pushes * size), frame.cut(to: size), size: size, isStack: true)
    }
    // The end of the space that is allocated must be writable.
    try context.check(try place(end), count: size, .write, isStack: true)
    context.setGeneral(.rbp, frame, size: size)
    context.stackPointer = top &- UInt64(end)
  }
}
