import TrivisorVMM
import TrivisorX86

/// Segments of 64-bit domains: Xen's flat selectors, which the host doesn't have, and the guest's own. The host's flat segments are in
/// their place already.
struct SegmentEmulation {
  let processor: DomainProcessor

  private var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  /// Loads of selectors, far jumps, calls and returns. Whether it was one that could be done.
  func emulate(_ bytes: InstructionBytes) -> Bool {
    guard var instruction = GuestInstruction(bytes) else { return false }
    let root = processor.root
    do throws(XenError) {
      switch instruction.opcode {
      case 0x8e:
        guard instruction.readModRM() else { return false }
        let value: UInt64
        if instruction.namesMemory {
          guard let address = instruction.address(registers) else { return false }
          value = UInt64(try processor.read(UInt16.self, address, root: root))
        } else {
          value = registers.general(instruction.baseRegister) & 0xffff
        }
        // CS can't be loaded so. SS must be writable, and its base counts as little as those of DS and ES.
        guard instruction.register != 1, instruction.register < 6,
          let segment = processor.dataSegment(UInt16(truncatingIfNeeded: value)),
          instruction.register != 2 || segment.isWritable
        else { return false }
        if instruction.register == 4 { registers.fsBase = UInt64(segment.base) }
        if instruction.register == 5 { registers.gsBase = UInt64(segment.base) }
        registers.rip &+= UInt64(instruction.position)
      case 0xcf where instruction.isWide:
        var words: InlineArray<5, UInt64> = InlineArray(repeating: 0)
        for position in words.indices {
          words[position] = try processor.read(UInt64.self, registers.rsp &+ 8 &* UInt64(position), root: root)
        }
        guard let code = processor.flatCode(UInt16(truncatingIfNeeded: words[1])), words[1] & 3 == 3,
          words[4] & 3 == 3, let stack = processor.dataSegment(UInt16(truncatingIfNeeded: words[4])), stack.isWritable
        else { return false }
        registers.cs = Selectors.segment(UInt16(truncatingIfNeeded: code), .bits64, isCode: true)
        registers.rip = words[0]
        registers.rflags = words[2] & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
        registers.rsp = words[3]
      case 0xcb:
        let size: UInt64 = instruction.isWide ? 8 : 4
        let (rip, selector) = try farPointer(registers.rsp, size, root)
        guard selector & 3 == 3, let code = processor.flatCode(UInt16(truncatingIfNeeded: selector)) else {
          return false
        }
        registers.cs = Selectors.segment(UInt16(truncatingIfNeeded: code), .bits64, isCode: true)
        registers.rip = rip
        registers.rsp &+= 2 &* size
      case 0xff:
        guard instruction.readModRM(), instruction.namesMemory,
          instruction.modRM >> 3 & 6 == 2 || instruction.modRM >> 3 & 7 == 5
        else { return false }
        let isCall = instruction.modRM >> 3 & 7 == 3
        guard isCall || instruction.modRM >> 3 & 7 == 5, let address = instruction.address(registers) else {
          return false
        }
        let size: UInt64 = instruction.isWide ? 8 : 4
        let rip =
          size == 8
          ? try processor.read(UInt64.self, address, root: root)
          : UInt64(try processor.read(UInt32.self, address, root: root))
        guard let code = processor.flatCode(try processor.read(UInt16.self, address &+ size, root: root)) else {
          return false
        }
        if isCall {
          let back = registers.rip &+ UInt64(instruction.position)
          let stack = registers.rsp &- 2 &* size
          if size == 8 {
            try processor.write(back, to: stack, root: root)
            try processor.write(Selectors.code64, to: stack &+ 8, root: root)
          } else {
            try processor.write(UInt32(truncatingIfNeeded: back), to: stack, root: root)
            try processor.write(UInt32(Selectors.code64), to: stack &+ 4, root: root)
          }
          registers.rsp = stack
        }
        registers.cs = Selectors.segment(UInt16(truncatingIfNeeded: code), .bits64, isCode: true)
        registers.rip = rip
      default: return false
      }
      return true
    } catch { return false }
  }

  /// A load of a selector whose segment is one, but not present: the host's table doesn't have it at all.
  func absentVector(_ bytes: InstructionBytes, _ errorCode: UInt64) -> UInt8? {
    guard errorCode > 3, var instruction = GuestInstruction(bytes), instruction.opcode == 0x8e, instruction.readModRM(),
      let segment = processor.descriptor(UInt16(truncatingIfNeeded: errorCode)), !segment.isPresent, segment.isSegment,
      instruction.register == 2 ? segment.isWritable : segment.isReadable, segment.privilegeLevel == 3
    else { return nil }
    return instruction.register == 2 ? 12 : 11
  }

  private func farPointer(_ address: UInt64, _ size: UInt64, _ root: UInt64) throws(XenError) -> (UInt64, UInt64) {
    if size == 8 {
      return (
        try processor.read(UInt64.self, address, root: root), try processor.read(UInt64.self, address &+ 8, root: root)
      )
    }
    return (
      UInt64(try processor.read(UInt32.self, address, root: root)),
      UInt64(try processor.read(UInt32.self, address &+ 4, root: root))
    )
  }
}
