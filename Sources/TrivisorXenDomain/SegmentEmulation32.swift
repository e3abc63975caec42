import TrivisorVMM
import TrivisorX86

/// Segments of 32-bit code, which the host's table doesn't have under Xen's selectors or the guest's own. All that is to be had is
/// flat, and what guest code goes on with.
struct SegmentEmulation32 {
  let processor: DomainProcessor

  private var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  private enum Opcode {
    static let popES: UInt16 = 0x07
    static let popSS: UInt16 = 0x17
    static let popDS: UInt16 = 0x1f
    static let moveToSegment: UInt16 = 0x8e
    static let farCall: UInt16 = 0x9a
    static let loadES: UInt16 = 0xc4
    static let loadDS: UInt16 = 0xc5
    static let farReturnAndPop: UInt16 = 0xca
    static let farReturn: UInt16 = 0xcb
    static let interruptReturn: UInt16 = 0xcf
    static let farJump: UInt16 = 0xea
    static let group5: UInt16 = 0xff
    static let popFS: UInt16 = 0x0fa1
    static let popGS: UInt16 = 0x0fa9
    static let loadSS: UInt16 = 0x0fb2
    static let loadFS: UInt16 = 0x0fb4
    static let loadGS: UInt16 = 0x0fb5
  }

  /// Loads of data selectors, far jumps, calls and returns. Whether it was one that could be done.
  func emulate(_ bytes: InstructionBytes) -> Bool {
    guard var instruction = GuestInstruction(bytes, is64Bit: false), !instruction.operandPrefix else { return false }
    do throws(XenError) {
      switch instruction.opcode {
      case Opcode.moveToSegment:
        guard instruction.readModRM(), instruction.register != 1, instruction.register < 6 else { return false }
        var selector = registers.general(instruction.baseRegister) & 0xffff
        if instruction.namesMemory {
          guard let address = instruction.address(registers) else { return false }
          selector = UInt64(try read(UInt16.self, address))
        }
        return loadData(selector, instruction)
      case Opcode.popES, Opcode.popSS, Opcode.popDS, Opcode.popFS, Opcode.popGS:
        guard loadData(UInt64(try read(UInt16.self, registers.rsp)), instruction) else { return false }
        registers.rsp = (registers.rsp &+ 4) & 0xffff_ffff
      case Opcode.loadES, Opcode.loadDS, Opcode.loadSS, Opcode.loadFS, Opcode.loadGS:
        guard instruction.readModRM(), instruction.namesMemory, let address = instruction.address(registers)
        else { return false }
        let offset = UInt64(try read(UInt32.self, address))
        guard loadData(UInt64(try read(UInt16.self, address &+ 4)), instruction) else { return false }
        registers.setGeneral(instruction.register & 7, offset)
      case Opcode.farJump, Opcode.farCall:
        guard let target = instruction.immediate32(), let low = instruction.immediate(),
          let high = instruction.immediate()
        else { return false }
        return try transfer(
          to: UInt64(UInt32(bitPattern: target)), UInt64(low) | UInt64(high) << 8,
          isCall: instruction.opcode == Opcode.farCall, instruction)
      case Opcode.group5:
        guard instruction.readModRM(), instruction.namesMemory else { return false }
        // CALL and JMP to what is in memory: m16:32.
        let operation = instruction.modRM >> 3 & 7
        guard operation == 3 || operation == 5, let address = instruction.address(registers) else { return false }
        return try transfer(
          to: UInt64(try read(UInt32.self, address)), UInt64(try read(UInt16.self, address &+ 4)),
          isCall: operation == 3, instruction)
      case Opcode.farReturn, Opcode.farReturnAndPop:
        var released: UInt64 = 8
        if instruction.opcode == Opcode.farReturnAndPop {
          guard let low = instruction.immediate(), let high = instruction.immediate() else { return false }
          released += UInt64(low) | UInt64(high) << 8
        }
        let (offset, selector) = (
          UInt64(try read(UInt32.self, registers.rsp)), UInt64(try read(UInt16.self, registers.rsp &+ 4))
        )
        guard isFlat(selector, isCode: true) else { return false }
        registers.rip = offset
        registers.rsp = (registers.rsp &+ released) & 0xffff_ffff
      case Opcode.interruptReturn: return try returnFromInterrupt()
      default: return false
      }
      return true
    } catch { return false }
  }

  private func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ address: UInt64
  ) throws(XenError) -> Value {
    try processor.read(type, address & 0xffff_ffff, root: processor.root)
  }

  private func loadData(_ selector: UInt64, _ instruction: GuestInstruction) -> Bool {
    guard isFlat(selector, isCode: false) else { return false }
    registers.rip = (registers.rip &+ UInt64(instruction.position)) & 0xffff_ffff
    return true
  }

  private func transfer(
    to offset: UInt64, _ selector: UInt64, isCall: Bool, _ instruction: GuestInstruction
  ) throws(XenError) -> Bool {
    guard isFlat(selector, isCode: true) else { return false }
    if isCall {
      let stack = (registers.rsp &- 8) & 0xffff_ffff
      let code = processor.mode == .kernel ? Selectors.kernelCode32 : processor.userSelectors.code
      let back = UInt32(truncatingIfNeeded: registers.rip &+ UInt64(instruction.position))
      try processor.write(UInt32(truncatingIfNeeded: code), to: stack &+ 4, root: processor.root)
      try processor.write(back, to: stack, root: processor.root)
      registers.rsp = stack
    }
    registers.rip = offset
    return true
  }

  /// IRET: to the same level, or by a kernel to its user code; the flag for interrupts stays, as its level has no say in it.
  private func returnFromInterrupt() throws(XenError) -> Bool {
    let (offset, code, flags) = (
      UInt64(try read(UInt32.self, registers.rsp)), UInt64(try read(UInt16.self, registers.rsp &+ 4)),
      UInt64(try read(UInt32.self, registers.rsp &+ 8))
    )
    guard flags & Flags.virtual8086 == 0 else { return false }
    let isOutward = processor.mode == .kernel && code & 3 == 3
    guard isOutward else {
      guard isFlat(code, isCode: true) else { return false }
      registers.rsp = (registers.rsp &+ 12) & 0xffff_ffff
      registers.rip = offset
      setFlags(flags)
      return true
    }
    let (stack, stackSelector) = (
      UInt64(try read(UInt32.self, registers.rsp &+ 12)), UInt64(try read(UInt16.self, registers.rsp &+ 16))
    )
    guard code == Selectors.userCode32, stackSelector == Selectors.userData32 else { return false }
    processor.switchMode()
    processor.userSelectors = (code, stackSelector)
    (registers.rip, registers.rsp) = (offset, stack)
    setFlags(flags)
    return true
  }

  private func setFlags(_ flags: UInt64) {
    registers.rflags = flags & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
  }

  /// Whether code of the current mode may have the selector, and what it names is all 4 GiB.
  private func isFlat(_ selector: UInt64, isCode: Bool) -> Bool {
    let kernel = isCode ? Selectors.kernelCode32 : Selectors.kernelData32
    let user = isCode ? Selectors.userCode32 : Selectors.userData32
    if selector == user { return !isCode || processor.mode == .user }
    if selector == kernel { return processor.mode == .kernel }
    guard let segment = processor.descriptor(UInt16(truncatingIfNeeded: selector)) else { return false }
    let level: UInt8 = processor.mode == .kernel ? 1 : 3
    return segment.isPresent && segment.isSegment && segment.isFlat && segment.is32Bit && segment.isCode == isCode
      && (isCode ? segment.privilegeLevel == level : segment.privilegeLevel >= level)
  }
}
