// String instructions, element by element, with a fast path for RAM within a page on either side.
//
// After each element the registers say what is left, so a fault, a stop request or a device's effect can come between
// any two.

import InstructionSet
import VMM

extension RewritingProcessor {
  func emulateString(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    let isRepeated = instruction.isRepeated
    let addressSize = Int(instruction.addressSize)
    let isByte = instruction.opcode & 1 == 0
    let isPort = instruction.opcode < 0x70
    let size = isByte ? 1 : isPort ? min(Int(instruction.operandSize), 4) : Int(instruction.operandSize)
    let sourceSegment = instruction.segmentOverride ?? .ds
    let step = systemFlags & 0x400 == 0 ? UInt64(size) : 0 &- UInt64(size)
    let comparesWhileEqual = instruction.prefixes.contains(.rep)
    if isPort, let width = AccessWidth(rawValue: size) {
      // The permission counts also when the count is zero; a breakpoint is for an access.
      let port = UInt16(truncatingIfNeeded: general(.rdx))
      try checkPort(port, width: width)
      if !isRepeated || general(.rcx, size: addressSize) != 0 { checkPortBreakpoints(port, width: width) }
    }
    var budget = 1 << 16
    while true {
      let count = general(.rcx, size: addressSize)
      if isRepeated, count == 0 { break }
      if isRepeated, !mode.isSingleStepping, !mode.checksAccesses {
        let done = try moveInBulk(
          instruction, size: size, count: count, step: step, addressSize: addressSize, sourceSegment: sourceSegment)
        if done > 0 {
          setGeneral(.rcx, count &- done, size: addressSize)
          budget -= Int(truncatingIfNeeded: min(done, 4096))
          if budget <= 0 {
            try makeWay()
            budget = 1 << 16
          }
          continue
        }
      }
      func source() throws(Interruption) -> UInt64 {
        try address(sourceSegment, general(.rsi, size: addressSize), size: size, isWrite: false)
      }
      func destination(isWrite: Bool) throws(Interruption) -> UInt64 {
        try address(.es, general(.rdi, size: addressSize), size: size, isWrite: isWrite)
      }
      var isFinished = false
      var effect: StopReason?
      var usesSource = false
      var usesDestination = false
      switch instruction.opcode & ~1 {
      case 0xa4:
        let value = try load(try source(), size: size)
        try save(try destination(isWrite: true), value, size: size)
        (usesSource, usesDestination) = (true, true)
      case 0xaa:
        try save(try destination(isWrite: true), general(.rax, size: size), size: size)
        usesDestination = true
      case 0xac:
        setGeneral(.rax, try load(try source(), size: size), size: size)
        usesSource = true
      case 0xa6, 0xae:
        let isCompare = instruction.opcode & ~1 == 0xa6
        // Which operand of CMPS is read first, and so faults first, is the processor's affair: AMD's family 17h begins with
        // ES:rDI, and guests get that on every host.
        let right = try load(try destination(isWrite: false), size: size)
        let left = isCompare ? try load(try source(), size: size) : general(.rax, size: size)
        setFlags(comparing: left, with: right, size: size)
        (usesSource, usesDestination) = (isCompare, true)
        isFinished = (left == right) != comparesWhileEqual
      case 0x6c, 0x6e:
        guard let width = AccessWidth(rawValue: size) else { return false }
        let port = UInt16(truncatingIfNeeded: general(.rdx))
        if instruction.opcode & ~1 == 0x6c {
          // A destination that can't be written must fault before the device is read.
          let place = try destination(isWrite: true)
          _ = try locate(place, count: size, .write)
          try save(place, readPort(port, width: width), size: size)
          usesDestination = true
        } else {
          effect = writePort(port, try load(try source(), size: size), width: width)
          usesSource = true
        }
      default: return false
      }
      if usesSource { setGeneral(.rsi, general(.rsi) &+ step, size: addressSize) }
      if usesDestination { setGeneral(.rdi, general(.rdi) &+ step, size: addressSize) }
      if isRepeated { setGeneral(.rcx, count &- 1, size: addressSize) }
      if let effect {
        if !isRepeated || count == 1 { rip = next }
        throw .stop(effect)
      }
      if !isRepeated || isFinished { break }
      // Each iteration is an instruction to the trap flag, but not to instruction breakpoints.
      if mode.isSingleStepping, count > 1 {
        systemFlags |= Self.resumeFlag
        return true
      }
      budget -= 1
      if budget <= 0 {
        try makeWay()
        budget = 1 << 16
      }
    }
    rip = next
    return true
  }

  /// Leaves a repeated instruction between two rounds if somebody wants the processor. Frames that are pushed there have RF
  /// set (AMD64 APM vol. 2, 3.1.6).
  private func makeWay() throws(Interruption) {
    guard stop.isWanted || hasEvent else { return }
    systemFlags |= Self.resumeFlag
    throw .stop(.stopRequested)
  }

  /// REP MOVS and REP STOS inside one page of RAM on each side, in either direction.
  /// - Returns: how many elements it did; 0 where the careful way is needed.
  private func moveInBulk(
    _ instruction: Instruction, size: Int, count: UInt64, step: UInt64, addressSize: Int,
    sourceSegment: SegmentRegister
  ) throws(Interruption) -> UInt64 {
    let kind = instruction.opcode & ~1
    guard kind == 0xa4 || kind == 0xaa else { return 0 }
    let isDownward = step != UInt64(size)
    let (to, from) = (general(.rdi, size: addressSize), general(.rsi, size: addressSize))
    var source: UInt64 = 0
    var first: UInt64 = 0
    if kind == 0xa4 {
      source = try address(sourceSegment, from, size: size, isWrite: false)
      first = try locate(source, count: 1, .read).first
    }
    let destination = try address(.es, to, size: size, isWrite: true)
    var elements = min(count, elementsInPage(destination, size: size, isDownward: isDownward))
    if kind == 0xa4 { elements = min(elements, elementsInPage(source, size: size, isDownward: isDownward)) }
    guard elements > 1 else { return 0 }
    let bytes = Int(elements) * size
    // The segment must hold them all, without a wrap of the offset: else element by element.
    guard reaches(.es, to, addressSize, size: size, bytes: bytes, isDownward: isDownward, isWrite: true),
      kind != 0xa4
        || reaches(sourceSegment, from, addressSize, size: size, bytes: bytes, isDownward: isDownward, isWrite: false)
    else { return 0 }
    // The lowest byte of the range is at or below the first element.
    let reach = isDownward ? UInt64(bytes - size) : 0
    let place = try locate(destination, count: 1, .write).first &- reach
    guard let target = mmu.host(place, count: UInt64(bytes)) else { return 0 }
    let moved = UInt64(bytes)
    if kind == 0xa4 {
      guard let origin = mmu.host(first &- reach, count: moved) else { return 0 }
      // A copy that reads what it has written is a fill: element by element.
      let overlaps = target < origin + bytes && origin < target + bytes
      if overlaps, isDownward ? target < origin : target > origin { return 0 }
      target.copyMemory(from: origin, byteCount: bytes)
      let register = general(.rsi)
      setGeneral(.rsi, isDownward ? register &- moved : register &+ moved, size: addressSize)
    } else {
      fill(target, with: general(.rax, size: size), size: size, count: bytes)
    }
    let register = general(.rdi)
    setGeneral(.rdi, isDownward ? register &- moved : register &+ moved, size: addressSize)
    store.invalidate(place, count: bytes)
    return elements
  }

  private func reaches(
    _ register: SegmentRegister, _ offset: UInt64, _ addressSize: Int, size: Int, bytes: Int, isDownward: Bool,
    isWrite: Bool
  ) -> Bool {
    if is64 { return true }
    let extra = UInt64(bytes - size)
    if isDownward, offset < extra { return false }
    let first = isDownward ? offset - extra : offset
    do throws(Interruption) {
      try checkSegment(register, first, size: bytes, isWrite: isWrite)
    } catch {
      return false
    }
    return first + UInt64(bytes) <= (addressSize == 2 ? 0x1_0000 : 0x1_0000_0000)
  }

  /// How many whole elements lie in the page of the first one, from there on.
  private func elementsInPage(_ linear: UInt64, size: Int, isDownward: Bool) -> UInt64 {
    let offset = linear & 4095
    let whole = (4096 - offset) / UInt64(size)
    return isDownward ? (whole == 0 ? 0 : offset / UInt64(size) + 1) : whole
  }

  private func fill(_ target: UnsafeMutableRawPointer, with value: UInt64, size: Int, count: Int) {
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

  /// The flags of CMP.
  private func setFlags(comparing left: UInt64, with right: UInt64, size: Int) {
    let bits = UInt64(8 * size)
    let mask = bits == 64 ? UInt64.max : (1 << bits) - 1
    let result = (left &- right) & mask
    var flags: UInt64 = 0
    if left < right { flags |= 1 }
    if UInt8(truncatingIfNeeded: result).nonzeroBitCount % 2 == 0 { flags |= 4 }
    if (left ^ right ^ result) & 0x10 != 0 { flags |= 0x10 }
    if result == 0 { flags |= 0x40 }
    if result >> (bits - 1) & 1 != 0 { flags |= 0x80 }
    if ((left ^ right) & (left ^ result)) >> (bits - 1) & 1 != 0 { flags |= 0x800 }
    setArithmeticFlags(flags)
  }
}
