import TrivisorInstructionSet

/// A decoded instruction that `Interpreter` can carry out, in few bytes. Of registers the numbers are those of the encodings.
struct PlainInstruction {
  /// What it does.
  enum Action: UInt8 {
    case move, moveZeroExtended, moveSignExtended, loadAddress
    case add, addWithCarry, subtract, subtractWithBorrow, compare, and, or, exclusiveOr, test
    case increment, decrement, negate, complement
    case shiftLeft, shiftRight, shiftRightArithmetic, multiply, testBit, swapBytes
    case signExtendAccumulator, signExtendIntoData
    case moveIf, setIf, jumpIf
    case jump, jumpIndirect, call, callIndirect, `return`
    case push, pop, leave, exchange, nothing

    var isShift: Bool { self == .shiftLeft || self == .shiftRight || self == .shiftRightArithmetic }
  }

  /// Operands that are no register; the registers are 0 to 15, and AH, CH, DH and BH 16 to 19.
  static let immediate: UInt8 = 0xfe
  static let memory: UInt8 = 0xff
  static let firstHighByte: UInt8 = 16
  /// In the place of a base or an index that there is not.
  static let none: UInt8 = 16

  /// What is added to an address besides.
  enum SegmentBase: UInt8 {
    case zero, fs, gs
  }

  var action: Action
  /// Of the target, in bytes, and of a source of another size.
  var size: UInt8 = 8
  var sourceSize: UInt8 = 8
  /// What it changes, or the first operand; the second.
  var target: UInt8 = none
  var source: UInt8 = none
  /// The address of the operand in memory.
  var base: UInt8 = none
  var index: UInt8 = none
  var scale: UInt8 = 0
  var segment = SegmentBase.zero
  var condition: UInt8 = 0
  /// IMUL: the immediate is the second factor.
  var hasThreeOperands = false
  var length: UInt8 = 0
  /// RIP, if it counts, included.
  var displacement: UInt64 = 0
  /// Or the address of a branch's target.
  var immediate: UInt64 = 0

  init(action: Action) { self.action = action }

  /// - Returns: nil for an instruction that is left to the processor.
  /// - Parameter rip: where it is.
  init?(_ instruction: Instruction, at rip: UInt64) {
    guard instruction.encoding == .legacy, instruction.classification != .undefined,
      instruction.prefixes.isDisjoint(with: [.lock, .addressSize, .repne]),
      let action = Self.action(of: instruction)
    else { return nil }
    self.action = action
    length = instruction.length
    size = instruction.operandSize
    condition = instruction.opcode & 15
    let next = rip &+ UInt64(length)
    switch action {
    case .nothing: return
    case .jump, .jumpIf, .call:
      // With 66, processors differ.
      guard let offset = instruction.branchOffset, !instruction.prefixes.contains(.operandSize) else { return nil }
      immediate = next &+ UInt64(bitPattern: offset)
      return
    case .return, .leave:
      guard instruction.operandCount == 0, !instruction.prefixes.contains(.operandSize) else { return nil }
      return
    case .signExtendAccumulator, .signExtendIntoData: return
    default: break
    }
    if let first = instruction.operand(at: 0) {
      guard let operand = take(first, next) else { return nil }
      target = operand
      size = UInt8(truncatingIfNeeded: first.size)
    }
    if let second = instruction.operand(at: 1) {
      guard let operand = take(second, next) else { return nil }
      source = operand
      sourceSize = UInt8(truncatingIfNeeded: second.size)
    }
    if action == .loadAddress { size = instruction.operandSize }
    if action.isShift, source == Self.none { (source, immediate) = (Self.immediate, 1) }
    guard isPlain(instruction) else { return nil }
    // IMUL with three operands: the second and third are the factors.
    if action == .multiply {
      guard instruction.operandCount > 1 else { return nil }
      if case .immediate(let factor)? = instruction.operand(at: 2)?.kind {
        immediate = UInt64(bitPattern: factor)
        hasThreeOperands = true
      }
    }
  }

  /// What of its action is done here.
  private func isPlain(_ instruction: Instruction) -> Bool {
    let isSized = [1, 2, 4, 8].contains(size)
    switch action {
    case .push, .pop, .jumpIndirect, .callIndirect:
      // Of 64 bits, and nothing into memory where RSP is the base.
      return !instruction.prefixes.contains(.operandSize) && (action != .pop || target < Self.firstHighByte)
    case .exchange, .swapBytes, .testBit: return isSized && target != Self.memory && source != Self.memory && size > 1
    case .loadAddress: return segment == .zero && source == Self.memory && isSized
    // By one, an immediate, or CL.
    case _ where action.isShift: return isSized && (source == Self.immediate || source == 1)
    default: return isSized
    }
  }

  /// - Returns: nil for an operand of another kind.
  private mutating func take(_ operand: Operand, _ next: UInt64) -> UInt8? {
    switch operand.kind {
    case .general(let register): return register.rawValue
    case .highByte(let register): return register.rawValue + Self.firstHighByte
    case .immediate(let value):
      immediate = UInt64(bitPattern: value)
      return Self.immediate
    case .memory(let place):
      guard place.source == .modRM, place.addressSize == 8, place.vectorIndex == nil else { return nil }
      base = place.base?.rawValue ?? Self.none
      index = place.index?.rawValue ?? Self.none
      scale = UInt8(place.scale.trailingZeroBitCount)
      displacement = UInt64(bitPattern: place.displacement) &+ (place.isRIPRelative ? next : 0)
      segment = place.segment == .fs ? .fs : place.segment == .gs ? .gs : .zero
      return Self.memory
    default: return nil
    }
  }

  private static func action(of instruction: Instruction) -> Action? {
    switch instruction.operation {
    case .mov: .move
    case .movzx: .moveZeroExtended
    case .movsx, .movsxd: .moveSignExtended
    case .lea: .loadAddress
    case .add: .add
    case .adc: .addWithCarry
    case .sub: .subtract
    case .sbb: .subtractWithBorrow
    case .cmp: .compare
    case .and: .and
    case .or: .or
    case .xor: .exclusiveOr
    case .test: .test
    case .inc: .increment
    case .dec: .decrement
    case .neg: .negate
    case .not: .complement
    case .shl: .shiftLeft
    case .shr: .shiftRight
    case .sar: .shiftRightArithmetic
    case .imul: .multiply
    case .bt: .testBit
    case .bswap: .swapBytes
    case .cbw, .cwde, .cdqe: .signExtendAccumulator
    case .cwd, .cdq, .cqo: .signExtendIntoData
    case .cmovcc: .moveIf
    case .setcc: .setIf
    case .jcc: .jumpIf
    case .jmp: instruction.classification == .indirectJump ? .jumpIndirect : .jump
    case .call: instruction.classification == .indirectCall ? .callIndirect : .call
    case .ret: .return
    case .push: .push
    case .pop: .pop
    case .leave: .leave
    case .xchg: .exchange
    case .nop: .nothing
    default: nil
    }
  }
}
