// What each instruction does. Whatever can fail comes first: where an action returns `false`, nothing has changed.

extension Interpreter {
  // MARK: Operands

  /// Cut to its size.
  @inline(__always)
  private func register(_ number: UInt8, size: UInt8) -> UInt64 {
    if number >= PlainInstruction.firstHighByte {
      return general[Int(number &- PlainInstruction.firstHighByte)] >> 8 & 0xff
    }
    return general[Int(number)] & Self.mask(size)
  }

  /// 32 bits clear the upper half; 8 and 16 leave the rest.
  @inline(__always)
  private func setRegister(_ number: UInt8, _ value: UInt64, size: UInt8) {
    if size >= 4 {
      general[Int(number)] = value & Self.mask(size)
    } else if number >= PlainInstruction.firstHighByte {
      let place = general + Int(number &- PlainInstruction.firstHighByte)
      place.pointee = place.pointee & ~0xff00 | (value & 0xff) << 8
    } else {
      let place = general + Int(number)
      place.pointee = place.pointee & ~Self.mask(size) | value & Self.mask(size)
    }
  }

  /// The value of an operand, cut to its size.
  @inline(__always)
  private func value(
    _ operand: UInt8, size: UInt8, _ instruction: UnsafePointer<PlainInstruction>
  ) -> UInt64? {
    switch operand {
    case PlainInstruction.memory:
      place(address(of: instruction), size: size, forWriting: false).map { load($0, size: size) }
    case PlainInstruction.immediate: instruction.pointee.immediate & Self.mask(size)
    default: register(operand, size: size)
    }
  }

  /// Changes the target.
  /// - Returns: whether it can be.
  @inline(__always)
  private func change(_ instruction: UnsafePointer<PlainInstruction>, _ body: (UInt64) -> UInt64) -> Bool {
    let size = instruction.pointee.size
    guard instruction.pointee.target == PlainInstruction.memory else {
      let target = instruction.pointee.target
      setRegister(target, body(register(target, size: size)), size: size)
      return true
    }
    guard let place = place(address(of: instruction), size: size, forWriting: true) else { return false }
    store(body(load(place, size: size)), to: place, size: size)
    return true
  }

  @inline(__always)
  private static func mask(_ size: UInt8) -> UInt64 { .max &>> (64 &- 8 &* UInt64(size)) }

  /// The highest bit.
  @inline(__always)
  private static func top(_ size: UInt8) -> UInt64 { 1 &<< (8 &* UInt64(size) &- 1) }

  @inline(__always)
  private static func signExtended(_ value: UInt64, size: UInt8) -> UInt64 {
    let shift = 64 &- 8 &* UInt64(size)
    return UInt64(bitPattern: Int64(bitPattern: value &<< shift) &>> Int64(bitPattern: shift))
  }

  @inline(__always)
  private func setArithmeticFlags(_ value: UInt64) { flags = flags & ~ArithmeticFlags.all | value }

  // MARK: Actions

  /// - Returns: whether the instruction was carried out; if not, nothing has changed.
  @inline(__always)
  func carryOut(_ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    let size = instruction.pointee.size
    let next = rip &+ UInt64(instruction.pointee.length)
    switch instruction.pointee.action {
    case .move:
      guard let value = value(instruction.pointee.source, size: size, instruction), assign(value, instruction) else {
        return false
      }
    case .moveZeroExtended:
      guard let value = value(instruction.pointee.source, size: instruction.pointee.sourceSize, instruction) else {
        return false
      }
      setRegister(instruction.pointee.target, value, size: size)
    case .moveSignExtended:
      let sourceSize = instruction.pointee.sourceSize
      guard let value = value(instruction.pointee.source, size: sourceSize, instruction) else { return false }
      setRegister(instruction.pointee.target, Self.signExtended(value, size: sourceSize), size: size)
    case .loadAddress: setRegister(instruction.pointee.target, address(of: instruction), size: size)
    case .add, .addWithCarry, .subtract, .subtractWithBorrow, .and, .or, .exclusiveOr:
      guard let operand = value(instruction.pointee.source, size: size, instruction),
        change(instruction, { combine($0, operand, instruction) })
      else { return false }
    case .compare, .test:
      guard let operand = value(instruction.pointee.source, size: size, instruction),
        let value = value(instruction.pointee.target, size: size, instruction)
      else { return false }
      _ = combine(value, operand, instruction)
    case .increment, .decrement, .negate, .complement:
      guard change(instruction, { modify($0, instruction) }) else { return false }
    case .shiftLeft, .shiftRight, .shiftRightArithmetic: guard shift(instruction) else { return false }
    case .jumpIf:
      let isTaken = ArithmeticFlags.satisfy(flags, condition: instruction.pointee.condition)
      return branch(isTaken ? instruction.pointee.immediate : next)
    case .jump: return branch(instruction.pointee.immediate)
    case .call, .callIndirect, .jumpIndirect, .return: return transfer(instruction, next)
    case .push, .pop, .leave: guard useStack(instruction) else { return false }
    default: guard carryOutRare(instruction) else { return false }
    }
    rip = next
    return true
  }

  @inline(__always)
  private func assign(_ value: UInt64, _ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    let size = instruction.pointee.size
    guard instruction.pointee.target == PlainInstruction.memory else {
      setRegister(instruction.pointee.target, value, size: size)
      return true
    }
    guard let place = place(address(of: instruction), size: size, forWriting: true) else { return false }
    store(value, to: place, size: size)
    return true
  }

  /// Two operands make one, and flags.
  @inline(__always)
  private func combine(_ a: UInt64, _ b: UInt64, _ instruction: UnsafePointer<PlainInstruction>) -> UInt64 {
    let mask = Self.mask(instruction.pointee.size)
    let top = Self.top(instruction.pointee.size)
    let result: UInt64
    switch instruction.pointee.action {
    case .add:
      result = (a &+ b) & mask
      setArithmeticFlags(ArithmeticFlags.sum(result, a, b, top: top))
    case .addWithCarry:
      result = (a &+ b &+ (flags & ArithmeticFlags.carry)) & mask
      setArithmeticFlags(ArithmeticFlags.sum(result, a, b, top: top))
    case .subtract, .compare:
      result = (a &- b) & mask
      setArithmeticFlags(ArithmeticFlags.difference(result, a, b, top: top))
    case .subtractWithBorrow:
      result = (a &- b &- (flags & ArithmeticFlags.carry)) & mask
      setArithmeticFlags(ArithmeticFlags.difference(result, a, b, top: top))
    case .or:
      result = a | b
      setArithmeticFlags(ArithmeticFlags.of(result, top: top))
    case .exclusiveOr:
      result = a ^ b
      setArithmeticFlags(ArithmeticFlags.of(result, top: top))
    // AND, TEST.
    default:
      result = a & b
      setArithmeticFlags(ArithmeticFlags.of(result, top: top))
    }
    return result
  }

  /// One operand is changed.
  @inline(__always)
  private func modify(_ value: UInt64, _ instruction: UnsafePointer<PlainInstruction>) -> UInt64 {
    let mask = Self.mask(instruction.pointee.size)
    let top = Self.top(instruction.pointee.size)
    // INC and DEC leave it.
    let carry = flags & ArithmeticFlags.carry
    let result: UInt64
    switch instruction.pointee.action {
    case .increment:
      result = (value &+ 1) & mask
      setArithmeticFlags(ArithmeticFlags.sum(result, value, 1, top: top) & ~ArithmeticFlags.carry | carry)
    case .decrement:
      result = (value &- 1) & mask
      setArithmeticFlags(ArithmeticFlags.difference(result, value, 1, top: top) & ~ArithmeticFlags.carry | carry)
    case .negate:
      result = (0 &- value) & mask
      setArithmeticFlags(ArithmeticFlags.difference(result, 0, value, top: top))
    // NOT.
    default: result = ~value & mask
    }
    return result
  }

  /// By an immediate or CL, of which five bits count, six for 64-bit operands.
  @inline(__always)
  private func shift(_ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    let size = instruction.pointee.size
    let isByImmediate = instruction.pointee.source == PlainInstruction.immediate
    let count = (isByImmediate ? instruction.pointee.immediate : general[1]) & (size == 8 ? 63 : 31)
    // Flags stay; of a register of 32 bits the upper half goes.
    guard count > 0 else { return instruction.pointee.target != PlainInstruction.memory && change(instruction) { $0 } }
    let top = Self.top(size)
    return change(instruction) { value in
      let result: UInt64
      var carry: UInt64
      var overflow = false
      switch instruction.pointee.action {
      case .shiftLeft:
        let bits = 8 &* UInt64(size)
        result = count < bits ? (value &<< count) & Self.mask(size) : 0
        carry = count <= bits ? value &>> (bits &- count) & 1 : 0
        overflow = (result & top != 0) != (carry != 0)
      case .shiftRight:
        result = value &>> count
        carry = value &>> (count &- 1) & 1
        overflow = value & top != 0
      default:
        let extended = Int64(bitPattern: Self.signExtended(value, size: size))
        result = UInt64(bitPattern: extended &>> Int64(bitPattern: count)) & Self.mask(size)
        carry = UInt64(bitPattern: extended &>> Int64(bitPattern: count &- 1)) & 1
      }
      carry |= overflow ? ArithmeticFlags.overflow : 0
      setArithmeticFlags(ArithmeticFlags.of(result, top: top) | carry)
      return result
    }
  }

  /// Where a process can't go, the processor says what becomes of it.
  @inline(__always)
  private func branch(_ target: UInt64) -> Bool {
    guard target &>> 47 == 0 else { return false }
    rip = target
    return true
  }

  @inline(never)
  private func transfer(_ instruction: UnsafePointer<PlainInstruction>, _ next: UInt64) -> Bool {
    if instruction.pointee.action == .return {
      guard let place = place(general[Self.stackPointer], size: 8, forWriting: false),
        branch(load(place, size: 8))
      else { return false }
      general[Self.stackPointer] &+= 8
      return true
    }
    var target = instruction.pointee.immediate
    if instruction.pointee.action != .call {
      guard let value = value(instruction.pointee.target, size: 8, instruction) else { return false }
      target = value
    }
    guard instruction.pointee.action != .jumpIndirect else { return branch(target) }
    guard target >> 47 == 0, push(next) else { return false }
    return branch(target)
  }

  private func push(_ value: UInt64) -> Bool {
    let address = general[Self.stackPointer] &- 8
    guard let place = place(address, size: 8, forWriting: true) else { return false }
    store(value, to: place, size: 8)
    general[Self.stackPointer] = address
    return true
  }

  @inline(never)
  private func useStack(_ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    if instruction.pointee.action == .push {
      guard let value = value(instruction.pointee.target, size: 8, instruction) else { return false }
      return push(value)
    }
    let isLeave = instruction.pointee.action == .leave
    let address = general[isLeave ? Self.basePointer : Self.stackPointer]
    guard let place = place(address, size: 8, forWriting: false) else { return false }
    general[Self.stackPointer] = address &+ 8
    general[isLeave ? Self.basePointer : Int(instruction.pointee.target)] = load(place, size: 8)
    return true
  }

  @inline(never)
  private func carryOutRare(_ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    let size = instruction.pointee.size
    let (target, source) = (instruction.pointee.target, instruction.pointee.source)
    switch instruction.pointee.action {
    case .moveIf:
      guard let value = value(source, size: size, instruction) else { return false }
      let isMoved = ArithmeticFlags.satisfy(flags, condition: instruction.pointee.condition)
      setRegister(target, isMoved ? value : register(target, size: size), size: size)
    case .setIf:
      return assign(ArithmeticFlags.satisfy(flags, condition: instruction.pointee.condition) ? 1 : 0, instruction)
    case .multiply: return multiply(instruction)
    case .testBit:
      guard let bit = value(source, size: size, instruction) else { return false }
      let isSet = register(target, size: size) >> (bit & (8 &* UInt64(size) &- 1)) & 1
      flags = flags & ~ArithmeticFlags.carry | isSet
    case .swapBytes:
      guard size >= 4 else { return false }
      setRegister(target, register(target, size: size).byteSwapped >> (64 &- 8 &* UInt64(size)), size: size)
    case .signExtendAccumulator:
      let half = size / 2
      setRegister(0, Self.signExtended(register(0, size: half), size: half), size: size)
    case .signExtendIntoData:
      setRegister(2, register(0, size: size) & Self.top(size) != 0 ? .max : 0, size: size)
    case .exchange:
      let (first, second) = (register(target, size: size), register(source, size: size))
      setRegister(target, second, size: size)
      setRegister(source, first, size: size)
    case .nothing: break
    default: return false
    }
    return true
  }

  /// IMUL with two operands, or with three.
  private func multiply(_ instruction: UnsafePointer<PlainInstruction>) -> Bool {
    let size = instruction.pointee.size
    guard let factor = value(instruction.pointee.source, size: size, instruction) else { return false }
    let other =
      instruction.pointee.hasThreeOperands
      ? instruction.pointee.immediate : register(instruction.pointee.target, size: size)
    let (a, b) = (
      Int64(bitPattern: Self.signExtended(factor, size: size)), Int64(bitPattern: Self.signExtended(other, size: size))
    )
    let (high, low) = a.multipliedFullWidth(by: b)
    let result = low & Self.mask(size)
    let isWhole = Self.signExtended(result, size: size) == low && high == Int64(bitPattern: low) >> 63
    setRegister(instruction.pointee.target, result, size: size)
    setArithmeticFlags(
      ArithmeticFlags.of(result, top: Self.top(size)) | (isWhole ? 0 : ArithmeticFlags.carry | ArithmeticFlags.overflow)
    )
    return true
  }
}
