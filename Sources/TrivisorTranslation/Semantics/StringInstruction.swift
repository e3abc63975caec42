// String instructions, element by element, with a fast path for RAM within a page on either side.
//
// After each element the registers say what is left, so a fault, a stop request or a device's effect can come between
// any two.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS, repeated or not (AMD64 APM vol. 3).
struct StringInstruction<Context: InstructionContext> {
  private let context: Context
  private let instruction: Instruction
  private let next: UInt64
  /// Of an element, in bytes.
  private let size: Int
  private let addressSize: Int
  private let sourceSegment: SegmentRegister
  private let isDownward: Bool
  /// How many rounds may go by before somebody who waits is looked for.
  private static var patience: Int { 1 << 16 }

  init(_ instruction: Instruction, next: UInt64, in context: Context) {
    self.context = context
    self.instruction = instruction
    self.next = next
    size = instruction.elementSize
    addressSize = Int(instruction.addressSize)
    sourceSegment = instruction.segmentOverride ?? .ds
    isDownward = context.flags.contains(.direction)
  }

  private var step: UInt64 { isDownward ? 0 &- UInt64(size) : UInt64(size) }

  /// RIP is behind the instruction afterwards, or still at it, if only a part of its rounds is done.
  func execute() throws(Interruption) {
    let isRepeated = instruction.isRepeated
    if instruction.operation == .ins || instruction.operation == .outs { try checkPort(isRepeated) }
    var patience = Self.patience
    while true {
      let count = context.general(.rcx, size: addressSize)
      if isRepeated, count == 0 { break }
      if isRepeated, !context.isSingleStepping, !context.checksAccesses {
        let done = try moveInBulk(count)
        if done > 0 {
          context.setGeneral(.rcx, count &- done, size: addressSize)
          patience -= Int(truncatingIfNeeded: min(done, 4096))
          if patience <= 0 { patience = try makeWay() }
          continue
        }
      }
      let (isFinished, effect) = try round()
      if isRepeated { context.setGeneral(.rcx, count &- 1, size: addressSize) }
      if let effect {
        if !isRepeated || count == 1 { context.rip = next }
        throw .stop(effect)
      }
      if !isRepeated || isFinished { break }
      // Each iteration is an instruction to the trap flag, but not to instruction breakpoints.
      if context.isSingleStepping, count > 1 {
        context.flags.insert(.resume)
        return
      }
      patience -= 1
      if patience <= 0 { patience = try makeWay() }
    }
    context.rip = next
  }

  /// The permission counts also when the count is zero; a breakpoint is for an access.
  private func checkPort(_ isRepeated: Bool) throws(Interruption) {
    guard let width = AccessWidth(rawValue: size) else { return }
    let port = UInt16(truncatingIfNeeded: context[.rdx])
    try PortPermission(context: context).check(port, width: width)
    if !isRepeated || context.general(.rcx, size: addressSize) != 0 { context.notePortAccess(port, width: width) }
  }

  private func source() throws(Interruption) -> UInt64 {
    try context.address(sourceSegment, context.general(.rsi, size: addressSize), size: size, isWrite: false)
  }

  private func destination(isWrite: Bool) throws(Interruption) -> UInt64 {
    try context.address(.es, context.general(.rdi, size: addressSize), size: size, isWrite: isWrite)
  }

  private func advance(_ register: GeneralRegister) {
    context.setGeneral(register, context[register] &+ step, size: addressSize)
  }

  /// One element.
  /// - Returns: whether a comparison ends the repetition; why the machine ends, if a device says so.
  private func round() throws(Interruption) -> (isFinished: Bool, effect: StopReason?) {
    switch instruction.operation {
    case .movs:
      let value = try context.load(try source(), size: size)
      try context.save(try destination(isWrite: true), value, size: size)
      advance(.rsi)
      advance(.rdi)
    case .stos:
      try context.save(try destination(isWrite: true), context.general(.rax, size: size), size: size)
      advance(.rdi)
    case .lods:
      context.setGeneral(.rax, try context.load(try source(), size: size), size: size)
      advance(.rsi)
    case .cmps:
      // Which operand is read first, and so faults first, is the processor's affair: AMD's family 1Ah begins with
      // DS:rSI, and guests get that on every host.
      let left = try context.load(try source(), size: size)
      let right = try context.load(try destination(isWrite: false), size: size)
      advance(.rsi)
      advance(.rdi)
      return (compare(left, with: right), nil)
    case .scas:
      let right = try context.load(try destination(isWrite: false), size: size)
      advance(.rdi)
      return (compare(context.general(.rax, size: size), with: right), nil)
    case .ins:
      guard let width = AccessWidth(rawValue: size) else { break }
      // A destination that can't be written must fault before the device is read.
      let place = try destination(isWrite: true)
      try context.check(place, count: size, .write)
      try context.save(
        place, context.readPort(UInt16(truncatingIfNeeded: context[.rdx]), width: width), size: size)
      advance(.rdi)
    case .outs:
      guard let width = AccessWidth(rawValue: size) else { break }
      let value = try context.load(try source(), size: size)
      let effect = context.writePort(UInt16(truncatingIfNeeded: context[.rdx]), value, width: width)
      advance(.rsi)
      return (false, effect)
    default: throw .unsupported("instruction \(instruction.mnemonic)")
    }
    return (false, nil)
  }

  /// Leaves a repeated instruction between two rounds if somebody wants the processor. Frames that are pushed there have RF
  /// set (AMD64 APM vol. 2, 3.1.6).
  private func makeWay() throws(Interruption) -> Int {
    guard context.isWanted else { return Self.patience }
    context.flags.insert(.resume)
    throw .stop(.stopRequested)
  }

  /// Sets the flags as CMP does.
  /// - Returns: whether that ends a repetition: REPE goes on while both are equal, REPNE while they are not.
  private func compare(_ left: UInt64, with right: UInt64) -> Bool {
    context.arithmeticFlags = RFLAGS(comparing: left, with: right, size: size)
    return (left == right) != instruction.prefixes.contains(.rep)
  }

  // MARK: A page at once

  /// REP MOVS and REP STOS inside one page of RAM on each side, in either direction.
  /// - Returns: how many elements it did; 0 where the careful way is needed.
  private func moveInBulk(_ count: UInt64) throws(Interruption) -> UInt64 {
    let isMove = instruction.operation == .movs
    guard isMove || instruction.operation == .stos else { return 0 }
    var linearSource: UInt64 = 0
    var origin: UnsafeMutableRawPointer?
    if isMove {
      linearSource = try source()
      origin = try context.residentByte(linearSource, .read)
    }
    let linearTarget = try destination(isWrite: true)
    var elements = min(count, elementsInPage(linearTarget))
    if isMove { elements = min(elements, elementsInPage(linearSource)) }
    guard elements > 1 else { return 0 }
    let bytes = Int(elements) * size
    // The segment must hold them all, without a wrap of the offset: else element by element.
    guard reaches(.es, context.general(.rdi, size: addressSize), bytes: bytes, isWrite: true),
      !isMove || reaches(sourceSegment, context.general(.rsi, size: addressSize), bytes: bytes, isWrite: false)
    else { return 0 }
    // The lowest byte of the range is at or below the first element.
    let reach = isDownward ? bytes - size : 0
    guard var target = try context.residentByte(linearTarget, .write) else { return 0 }
    target -= reach
    if isMove {
      guard var origin else { return 0 }
      origin -= reach
      // A copy that reads what it has written is a fill: element by element.
      let overlaps = target < origin + bytes && origin < target + bytes
      if overlaps, isDownward ? target < origin : target > origin { return 0 }
      target.copyMemory(from: origin, byteCount: bytes)
      advance(.rsi, by: bytes)
    } else {
      fill(target, with: context[.rax], count: bytes)
    }
    advance(.rdi, by: bytes)
    context.didStore(to: target, count: bytes)
    return elements
  }

  private func advance(_ register: GeneralRegister, by bytes: Int) {
    let (old, distance) = (context[register], UInt64(bytes))
    context.setGeneral(register, isDownward ? old &- distance : old &+ distance, size: addressSize)
  }

  private func reaches(_ register: SegmentRegister, _ offset: UInt64, bytes: Int, isWrite: Bool) -> Bool {
    if context.is64 { return true }
    let extra = UInt64(bytes - size)
    if isDownward, offset < extra { return false }
    let first = isDownward ? offset - extra : offset
    do throws(Interruption) {
      try context.checkSegment(register, first, size: bytes, isWrite: isWrite)
    } catch {
      return false
    }
    return first + UInt64(bytes) <= (addressSize == 2 ? 0x1_0000 : 0x1_0000_0000)
  }

  /// How many whole elements lie in the page of the first one, from there on.
  private func elementsInPage(_ linear: UInt64) -> UInt64 {
    let offset = linear & 4095
    let whole = (4096 - offset) / UInt64(size)
    return isDownward ? (whole == 0 ? 0 : offset / UInt64(size) + 1) : whole
  }

  private func fill(_ target: UnsafeMutableRawPointer, with value: UInt64, count: Int) {
    switch size {
    case 1: target.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: value), count: count)
    case 2:
      for offset in stride(from: 0, to: count, by: 2) {
        target.storeBytes(of: UInt16(truncatingIfNeeded: value), toByteOffset: offset, as: UInt16.self)
      }
    case 4:
      for offset in stride(from: 0, to: count, by: 4) {
        target.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset, as: UInt32.self)
      }
    default:
      for offset in stride(from: 0, to: count, by: 8) {
        target.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
      }
    }
  }
}

extension RFLAGS {
  /// What CMP leaves of two operands of so many bytes.
  init(comparing left: UInt64, with right: UInt64, size: Int) {
    let result = (left &- right).cut(to: size)
    let sign = UInt64(1) << UInt64(8 * size - 1)
    self = []
    if left < right { insert(.carry) }
    if UInt8(truncatingIfNeeded: result).nonzeroBitCount % 2 == 0 { insert(.parity) }
    if (left ^ right ^ result) & 0x10 != 0 { insert(.auxiliary) }
    if result == 0 { insert(.zero) }
    if result & sign != 0 { insert(.sign) }
    if (left ^ right) & (left ^ result) & sign != 0 { insert(.overflow) }
  }
}
