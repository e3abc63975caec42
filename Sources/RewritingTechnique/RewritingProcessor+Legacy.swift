// Instructions that 64-bit mode has lost, and those that ask what a selector is good for (AMD64 APM vol. 3).

import InstructionSet
import VMM

extension RewritingProcessor {
  /// Opcodes of one byte.
  /// - Returns: `false` if it is none of these.
  func emulateLegacy(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    let size = Int(instruction.operandSize)
    switch instruction.opcode {
    case 0x27, 0x2f: adjustDecimal(isSubtraction: instruction.opcode == 0x2f)
    case 0x37, 0x3f: adjustASCII(isSubtraction: instruction.opcode == 0x3f)
    case 0x60:
      let order: [GeneralRegister] = [.rax, .rcx, .rdx, .rbx, .rsp, .rbp, .rsi, .rdi]
      try push(order.map { general($0, size: size) }, size: size)
    case 0x61:
      // SP is read over. What was popped before a fault stays, as processors leave it.
      let order: [GeneralRegister?] = [.rdi, .rsi, .rbp, nil, .rbx, .rdx, .rcx, .rax]
      for (index, register) in order.enumerated() {
        let value = try peek(UInt64(index * size), size: size)
        if let register { setGeneral(register, value, size: size) }
      }
      stackPointer = stackPointer &+ UInt64(8 * size)
    case 0x62: try checkBounds(instruction, next)
    case 0x63: try adjustPrivilege(instruction, next)
    case 0xc4, 0xc5: try loadFarPointer(instruction.opcode == 0xc4 ? .es : .ds, instruction, next)
    case 0xd4:
      let base = UInt64(bitPattern: instruction.immediate) & 0xff
      guard base != 0 else { throw .exception(.divide) }
      let value = general(.rax, size: 1)
      setGeneral(.rax, (value / base) << 8 | value % base, size: 2)
      setResultFlags(value % base)
    case 0xd5:
      let base = UInt64(bitPattern: instruction.immediate) & 0xff
      let value = general(.rax, size: 2)
      let result = (value & 0xff &+ (value >> 8) &* base) & 0xff
      setGeneral(.rax, result, size: 2)
      setResultFlags(result)
    case 0xd6: setGeneral(.rax, arithmeticFlags() & 1 != 0 ? 0xff : 0, size: 1)
    default: return false
    }
    return true
  }

  /// SF, ZF and PF of a byte; the others are `rest`.
  private func setResultFlags(_ value: UInt64, rest: UInt64 = 0) {
    var flags = rest
    if value & 0x80 != 0 { flags |= 0x80 }
    if value & 0xff == 0 { flags |= 0x40 }
    if UInt8(truncatingIfNeeded: value).nonzeroBitCount % 2 == 0 { flags |= 4 }
    setArithmeticFlags(flags)
  }

  /// DAA and DAS.
  private func adjustDecimal(isSubtraction: Bool) {
    let old = general(.rax, size: 1)
    let flags = arithmeticFlags()
    let hadCarry = flags & 1 != 0
    var value = old
    var rest: UInt64 = 0
    if old & 15 > 9 || flags & 0x10 != 0 {
      if hadCarry || (isSubtraction ? old < 6 : old + 6 > 0xff) { rest |= 1 }
      value = isSubtraction ? value &- 6 : value &+ 6
      rest |= 0x10
    }
    if old > 0x99 || hadCarry {
      value = isSubtraction ? value &- 0x60 : value &+ 0x60
      rest |= 1
    } else if !isSubtraction {
      rest &= ~1
    }
    setGeneral(.rax, value & 0xff, size: 1)
    setResultFlags(value & 0xff, rest: rest)
  }

  /// AAA and AAS.
  private func adjustASCII(isSubtraction: Bool) {
    var value = general(.rax, size: 2)
    let isAdjusted = value & 15 > 9 || arithmeticFlags() & 0x10 != 0
    if isAdjusted { value = isSubtraction ? value &- 0x106 : value &+ 0x106 }
    value &= 0xff0f
    setGeneral(.rax, value, size: 2)
    setResultFlags(value, rest: isAdjusted ? 0x11 : 0)
  }

  private func checkBounds(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let size = Int(instruction.operandSize)
    let bounds = try loadPair(memory, next, size: size, secondSize: size)
    func signed(_ value: UInt64) -> Int64 {
      size == 2 ? Int64(Int16(truncatingIfNeeded: value)) : Int64(Int32(truncatingIfNeeded: value))
    }
    let (low, high) = (signed(bounds.0), signed(bounds.1))
    let index = signed(general(GeneralRegister(rawValue: instruction.reg) ?? .rax))
    guard low <= index, index <= high else { throw .exception(.boundRange) }
  }

  /// ARPL.
  private func adjustPrivilege(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard system.cr0 & 1 != 0 else { throw .exception(.invalidOpcode) }
    let source = general(GeneralRegister(rawValue: instruction.reg) ?? .rax, size: 2)
    let old = try readRM(instruction, next, size: 2)
    let isRaised = old & 3 < source & 3
    let new = old & ~3 | source & 3
    if let memory = instruction.memoryOperand {
      if isRaised { try save(try linear(memory, next, size: 2, isWrite: true), new, size: 2) }
    } else if isRaised {
      setGeneral(rmRegister(instruction), new, size: 2)
    }
    setZero(isRaised)
  }

  private func setZero(_ isSet: Bool) {
    setArithmeticFlags(arithmeticFlags() & ~0x40 | (isSet ? 0x40 : 0))
  }

  /// LDS, LES, LFS, LGS, LSS.
  func loadFarPointer(
    _ register: SegmentRegister, _ instruction: Instruction, _ next: UInt64
  ) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let size = Int(instruction.operandSize)
    let (offset, selector) = try loadPair(memory, next, size: size, secondSize: 2)
    try loadSegment(register, UInt16(truncatingIfNeeded: selector))
    let destination = GeneralRegister(rawValue: instruction.reg | instruction.rex << 1 & 8) ?? .rax
    setGeneral(destination, offset, size: size)
  }

  // MARK: LAR, LSL, VERR, VERW

  /// What the selector means to code of this privilege; `nil` for what these instructions answer with ZF = 0.
  private func visibleDescriptor(_ selector: UInt16) throws(Interruption) -> Descriptor? {
    guard selector & 0xfffc != 0 else { return nil }
    let isLocal = selector & 4 != 0
    if isLocal, system.ldt.isUnusable || system.ldt.selector & 0xfffc == 0 { return nil }
    let limit = isLocal ? system.ldt.limit : UInt32(system.gdt.limit)
    guard UInt32(selector | 7) <= limit else { return nil }
    let found = try descriptor(selector, errorCode: 0)
    if found.isCode, found.isConforming { return found }
    return found.privilege >= max(cpl, UInt8(selector & 3)) ? found : nil
  }

  /// LAR and LSL.
  func emulateLoadRights(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard system.cr0 & 1 != 0 else { throw .exception(.invalidOpcode) }
    let selector = UInt16(truncatingIfNeeded: try readRM(instruction, next, size: 2))
    let isLimit = instruction.opcode == 3
    guard let found = try visibleDescriptor(selector), !found.isSystem || hasRights(found.type, isLimit: isLimit)
    else {
      setZero(false)
      return
    }
    let destination = GeneralRegister(rawValue: instruction.reg | instruction.rex << 1 & 8) ?? .rax
    let value = isLimit ? UInt64(found.limit) : found.low >> 32 & 0xff_ff00
    setGeneral(destination, value, size: Int(instruction.operandSize))
    setZero(true)
  }

  /// The system descriptors that LAR and LSL know.
  private func hasRights(_ type: UInt8, isLimit: Bool) -> Bool {
    switch type {
    case 2, 9, 11: true
    case 12: !isLimit
    case 1, 3: !isLongMode
    case 4, 5: !isLongMode && !isLimit
    default: false
    }
  }

  /// VERR and VERW.
  func verify(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    let selector = UInt16(truncatingIfNeeded: try readRM(instruction, next, size: 2))
    let found = try visibleDescriptor(selector)
    guard let found, !found.isSystem else {
      setZero(false)
      return
    }
    setZero(instruction.reg == 4 ? !found.isCode || found.hasAccess : !found.isCode && found.hasAccess)
  }

  // MARK: Fast system calls in legacy mode

  private func setFlatSegments(_ selector: UInt16, _ stack: UInt16, privilege: UInt8) {
    var code = Segment.flatCode32(selector: selector)
    var data = Segment.flatData(selector: stack)
    code.attributes |= UInt16(privilege) << 5
    data.attributes |= UInt16(privilege) << 5
    control.code = code
    control.stack = data
    cpl = privilege
  }

  func systemEnter() throws(Interruption) {
    let selector = UInt16(truncatingIfNeeded: modelSpecific[0x174] ?? 0) & 0xfffc
    guard system.cr0 & 1 != 0, selector != 0 else { throw .exception(.general) }
    setFlatSegments(selector, selector &+ 8, privilege: 0)
    // VM, RF and IF.
    rflags &= ~0x3_0200
    setGeneral(.rsp, modelSpecific[0x175] ?? 0, size: 4)
    rip = (modelSpecific[0x176] ?? 0) & 0xffff_ffff
  }

  func systemExit() throws(Interruption) {
    let selector = UInt16(truncatingIfNeeded: modelSpecific[0x174] ?? 0) & 0xfffc
    guard system.cr0 & 1 != 0, cpl == 0, selector != 0 else { throw .exception(.general) }
    setFlatSegments((selector &+ 16) | 3, (selector &+ 24) | 3, privilege: 3)
    setGeneral(.rsp, general(.rcx), size: 4)
    rip = general(.rdx, size: 4)
  }

  /// SYSCALL outside long mode.
  func legacySystemCall(_ next: UInt64) {
    let star = modelSpecific[ModelSpecific.star] ?? 0
    let selector = UInt16(truncatingIfNeeded: star >> 32) & 0xfffc
    setGeneral(.rcx, next, size: 4)
    setFlatSegments(selector, selector &+ 8, privilege: 0)
    rflags &= ~0x3_0200
    rip = star & 0xffff_ffff
  }
}
