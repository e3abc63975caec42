// What a paravirtual kernel executes all the same. It traps, and is done in the guest's place: the list is Xen's
// (arch/x86/pv/emul-priv-op.c): IN and OUT, CLI and STI, moves to and from control and debug registers, CLTS, WBINVD,
// RDMSR and WRMSR, RDTSC, CPUID behind its prefix, XSETBV. What is not on it goes back to the guest as an exception.
//
// Beyond that list stands what natively run code meets because the host's selectors are not Xen's: loads of Xen's flat
// selectors, far transfers to them, and the machine-to-physical table, whose address no process can map.

import Boot
import Sandbox
import VMM

extension Domain {
  /// Where RIP points in the mode that the processor is in.
  func instructionBytes(_ processor: VirtualProcessor, _ registers: UserRegisters) -> [UInt8] {
    let inPage = 4096 - Int(registers.rip & 4095)
    if let bytes = try? read(registers.rip, count: 15, root: processor.root) { return bytes }
    return (try? read(registers.rip, count: min(15, inPage), root: processor.root)) ?? []
  }

  /// General protection: an instruction to emulate, a software interrupt, or the guest's affair.
  func generalProtection(_ errorCode: UInt64, _ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    // The code names a vector: INT without the host's leave.
    if errorCode & 3 == 2 {
      let vector = Int(errorCode >> 3 & 0xff)
      if layout == .bits32, vector == 0x82, processor.mode == .kernel {
        registers.rip &+= 2
        processor.count("hypercall (INT 82h)")
        return hypercall(processor, &registers)
      }
      return softwareInterrupt(vector, length: 2, errorCode, processor, &registers)
    }
    let bytes = instructionBytes(processor, registers)
    if errorCode == 0, emulate(bytes, processor, &registers) {
      processor.count("privileged instruction, emulated")
      return
    }
    if layout == .bits32, emulateFlatSegments(bytes, processor, &registers) {
      processor.count("segment selector, emulated")
      return
    }
    if layout == .bits64 {
      if emulateSegments(bytes, processor, &registers) {
        processor.count("segment selector, emulated")
        return
      }
      if let vector = absentSegmentVector(bytes, errorCode, processor) {
        processor.count("exception \(vector)")
        return raise(vector: vector, errorCode: errorCode, processor, &registers)
      }
    }
    processor.count("exception 13")
    raise(vector: 13, errorCode: errorCode, processor, &registers)
  }

  /// INT n: the guest's own handler if it lets this mode call it.
  func softwareInterrupt(
    _ vector: Int, length: UInt64, _ errorCode: UInt64, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) {
    processor.count("software interrupt")
    let entry = processor.traps[vector & 0xff]
    // The kernel counts as level 1, unless it wants to be level 0 in this; its user code as level 3.
    let level: UInt8 = processor.mode == .user ? 3 : showsIOPrivilege ? 0 : 1
    let isAllowed = entry.privilegeLevel >= level
    guard entry.address != 0, isAllowed else {
      return raise(vector: 13, errorCode: errorCode, processor, &registers)
    }
    registers.rip &+= length
    raise(vector: UInt8(vector & 0xff), errorCode: nil, processor, &registers)
  }

  /// Xen's list. Whether it was done.
  private func emulate(
    _ bytes: [UInt8], _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    guard var instruction = GuestInstruction(bytes, is64Bit: layout == .bits64) else { return false }
    // The kernel counts as level 1, unless it has said that it wants to be level 0 in this; its user code as level 3.
    let isKernel = processor.mode == .kernel
    let mayUsePorts = processor.ioPrivilege >= (isKernel ? showsIOPrivilege ? 0 : 1 : 3)
    switch instruction.opcode {
    case 0xfa, 0xfb:
      guard mayUsePorts else { return false }
    case 0xe4...0xe7, 0xec...0xef:
      // A domain without devices reads all ones, and what it writes is lost.
      guard mayUsePorts else { return false }
      if instruction.opcode < 0xe8 { guard instruction.immediate() != nil else { return false } }
      if instruction.opcode & 2 == 0 {
        let isByte = instruction.opcode & 1 == 0
        let mask: UInt64 = isByte ? 0xff : instruction.operandPrefix ? 0xffff : 0xffff_ffff
        registers.rax = isByte || instruction.operandPrefix ? registers.rax | mask : mask
      }
    case 0x6c...0x6f:
      // What is written here goes by the kernel's rights.
      guard mayUsePorts, !processor.view.isUsers, movePortString(instruction, processor, &registers) else {
        return false
      }
    // The rest is for kernels.
    case _ where !isKernel: return false
    case 0x0f06: processor.isTaskSwitched = false
    case 0x0f09: break
    case 0x0f20, 0x0f22:
      guard instruction.readModRM() else { return false }
      guard moveControlRegister(instruction, processor, &registers) else { return false }
    case 0x0f21, 0x0f23:
      guard instruction.readModRM() else { return false }
      let number =
        instruction.register == 4 || instruction.register == 5 ? instruction.register + 2 : instruction.register
      guard [0, 1, 2, 3, 6, 7].contains(number) else { return false }
      if instruction.opcode == 0x0f21 {
        registers.setGeneral(instruction.baseRegister, processor.debugRegisters[number])
      } else {
        let value = registers.general(instruction.baseRegister)
        let context = HypercallContext(
          processor: processor, arguments: [UInt64(number), value], registers: registers)
        guard (try? setDebugRegister(context)) != nil else { return false }
      }
    case 0x0f30, 0x0f32:
      guard moveModelSpecificRegister(instruction.opcode == 0x0f30, processor, &registers) else { return false }
    case 0x0f01:
      // XSETBV with what is already so.
      guard instruction.readModRM(), instruction.modRM == 0xd1, registers.rcx & 0xffff_ffff == 0,
        registers.rax & 1 == 1, registers.rdx & 0xffff_ffff == 0
      else { return false }
    default: return false
    }
    registers.rip &+= UInt64(instruction.position)
    return true
  }

  /// INS and OUTS: all ones, and nothing. A long string is done in pieces, between which the processor can be stopped.
  private func movePortString(
    _ instruction: GuestInstruction, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    let size: UInt64 = instruction.opcode & 1 == 0 ? 1 : instruction.operandPrefix ? 2 : 4
    let wanted = instruction.repeats ? layout == .bits64 ? registers.rcx : registers.rcx & 0xffff_ffff : 1
    let count = min(wanted, 1024)
    let isDown = registers.rflags & Flags.direction != 0
    let step = isDown ? 0 &- size : size
    for _ in 0..<count {
      if instruction.opcode < 0x6e {
        let ones = [UInt8](repeating: 0xff, count: Int(size))
        guard (try? write(ones, to: registers.rdi, root: processor.root)) != nil else { return false }
        registers.rdi &+= step
      } else {
        registers.rsi &+= step
      }
      if instruction.repeats { registers.rcx &-= 1 }
    }
    // RIP goes behind the instruction only when the string is done.
    if wanted > count { registers.rip &-= UInt64(instruction.position) }
    return true
  }

  /// Protection, monitor, extension type, numeric error, write protection, alignment mask, paging: as any host has it.
  private static let control0: UInt64 = 0x8005_0033
  private static let taskSwitched: UInt64 = 8

  private func moveControlRegister(
    _ instruction: GuestInstruction, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    if instruction.opcode == 0x0f20 {
      let value: UInt64
      switch instruction.register {
      case 0: value = Self.control0 | (processor.isTaskSwitched ? Self.taskSwitched : 0)
      case 2: value = processor.faultAddress
      case 3: value = processor.kernelRoot << 12
      case 4: value = processor.control4
      default: return false
      }
      registers.setGeneral(instruction.baseRegister, value)
      return true
    }
    let value = registers.general(instruction.baseRegister)
    switch instruction.register {
    case 0:
      guard (value ^ Self.control0) & ~Self.taskSwitched == 0 else { return false }
      setTaskSwitched(value & Self.taskSwitched != 0, processor)
    case 2:
      processor.faultAddress = value
      storeFaultAddress(value, processor)
    case 3:
      guard (try? setKernelRoot(value >> 12, processor)) != nil else { return false }
    // What the guest may change of it (time stamps, debugging, performance counters) has no effect here.
    case 4:
      if (processor.control4 ^ value) & 0x10c != 0 { countNotHonoured(.control4) }
      processor.control4 = processor.control4 & ~0x10c | value & 0x10c
    default: return false
    }
    return true
  }

  private func moveModelSpecificRegister(
    _ isWrite: Bool, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    // Bases, and what a processor of 64 bits is asked.
    guard layout == .bits64 else { return false }
    let number = registers.rcx & 0xffff_ffff
    if isWrite {
      let value = registers.rax & 0xffff_ffff | registers.rdx << 32
      guard isCanonical(value) else { return false }
      switch number {
      case 0xc000_0100: registers.fsBase = value
      case 0xc000_0101: registers.gsBase = value
      case 0xc000_0102: processor.otherGSBase = value
      default: return false
      }
      return true
    }
    let value: UInt64
    switch number {
    // EFER: system calls, long mode, no-execute.
    case 0xc000_0080: value = 0xd01
    case 0xc000_0100: value = registers.fsBase
    case 0xc000_0101: value = registers.gsBase
    case 0xc000_0102: value = processor.otherGSBase
    default: return false
    }
    registers.rax = value & 0xffff_ffff
    registers.rdx = value >> 32
    return true
  }

  /// UD2, "xen", CPUID: how a paravirtual kernel asks for the hypervisor's leaves, too.
  func emulateIdentification(_ processor: VirtualProcessor, _ registers: inout UserRegisters) -> Bool {
    let bytes = instructionBytes(processor, registers)
    guard bytes.starts(with: [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2]) else { return false }
    let leaf = UInt32(truncatingIfNeeded: registers.rax)
    let words: (UInt32, UInt32, UInt32, UInt32)
    switch leaf {
    // "XenVMMXenVMM"; version; one hypercall page by this register.
    case 0x4000_0000: words = (0x4000_0002, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e)
    case 0x4000_0001: words = (4 << 16 | 17, 0, 0, 0)
    case 0x4000_0002: words = (0, 0, 0, 0)
    default: words = HostIdentification.read(leaf, UInt32(truncatingIfNeeded: registers.rcx))
    }
    (registers.rax, registers.rbx) = (UInt64(words.0), UInt64(words.1))
    (registers.rcx, registers.rdx) = (UInt64(words.2), UInt64(words.3))
    registers.rip &+= 7
    return true
  }

  /// Xen's flat selectors, which the host doesn't have: its own flat segments are in their place already.
  private func emulateSegments(
    _ bytes: [UInt8], _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    guard var instruction = GuestInstruction(bytes) else { return false }
    let root = processor.root
    do throws(XenError) {
      switch instruction.opcode {
      case 0x8e:
        guard instruction.readModRM() else { return false }
        let value: UInt64
        if instruction.namesMemory {
          guard let address = instruction.address(registers) else { return false }
          value = UInt64(try read(UInt16.self, address, root: root))
        } else {
          value = registers.general(instruction.baseRegister) & 0xffff
        }
        // CS can't be loaded so. SS must be writable, and its base counts as little as those of DS and ES.
        guard instruction.register != 1, instruction.register < 6,
          let segment = dataSegment(UInt16(truncatingIfNeeded: value), processor),
          instruction.register != 2 || segment.isWritable
        else { return false }
        if instruction.register == 4 { registers.fsBase = UInt64(segment.base) }
        if instruction.register == 5 { registers.gsBase = UInt64(segment.base) }
        registers.rip &+= UInt64(instruction.position)
      case 0xcf where instruction.isWide:
        var words: [UInt64] = []
        for position in 0..<5 as Range<UInt64> {
          words.append(try read(UInt64.self, registers.rsp &+ 8 &* position, root: root))
        }
        guard let code = hostCodeSelector(UInt16(truncatingIfNeeded: words[1]), processor), words[1] & 3 == 3,
          words[4] & 3 == 3, let stack = dataSegment(UInt16(truncatingIfNeeded: words[4]), processor), stack.isWritable
        else { return false }
        registers.cs = code
        registers.rip = words[0]
        registers.rflags = words[2] & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
        registers.rsp = words[3]
      case 0xcb:
        let size: UInt64 = instruction.isWide ? 8 : 4
        let (rip, selector) = try farPointer(registers.rsp, size, root)
        guard selector & 3 == 3, let code = hostCodeSelector(UInt16(truncatingIfNeeded: selector), processor) else {
          return false
        }
        registers.cs = code
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
          size == 8 ? try read(UInt64.self, address, root: root) : UInt64(try read(UInt32.self, address, root: root))
        guard let code = hostCodeSelector(try read(UInt16.self, address &+ size, root: root), processor) else {
          return false
        }
        if isCall {
          let back = registers.rip &+ UInt64(instruction.position)
          let stack = registers.rsp &- 2 &* size
          if size == 8 {
            try write(back, to: stack, root: root)
            try write(Selectors.code64, to: stack &+ 8, root: root)
          } else {
            try write(UInt32(truncatingIfNeeded: back), to: stack, root: root)
            try write(UInt32(Selectors.code64), to: stack &+ 4, root: root)
          }
          registers.rsp = stack
        }
        registers.cs = code
        registers.rip = rip
      default: return false
      }
      return true
    } catch { return false }
  }

  /// The same for 32-bit code: loads of data selectors from registers, far jumps and returns. All that is to be had is flat, and
  /// what guest code goes on with.
  private func emulateFlatSegments(
    _ bytes: [UInt8], _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    guard var instruction = GuestInstruction(bytes, is64Bit: false), !instruction.operandPrefix else { return false }
    switch instruction.opcode {
    case 0x8e:
      guard instruction.readModRM(), !instruction.namesMemory, instruction.register != 1, instruction.register < 6,
        isFlat(registers.general(instruction.baseRegister) & 0xffff, isCode: false, processor)
      else { return false }
      registers.rip &+= UInt64(instruction.position)
    case 0xea:
      guard let target = instruction.immediate32(), let low = instruction.immediate(),
        let high = instruction.immediate(),
        isFlat(UInt64(low) | UInt64(high) << 8, isCode: true, processor)
      else { return false }
      registers.rip = UInt64(UInt32(bitPattern: target))
    case 0xcb:
      guard let words = try? farPointer32(registers.rsp, processor.root), isFlat(words.1, isCode: true, processor)
      else {
        return false
      }
      registers.rip = words.0
      registers.rsp = (registers.rsp &+ 8) & 0xffff_ffff
    default: return false
    }
    return true
  }

  private func farPointer32(_ address: UInt64, _ root: UInt64) throws(XenError) -> (UInt64, UInt64) {
    let (offset, selector) = try farPointer(address, 4, root)
    return (offset, selector & 0xffff)
  }

  /// Whether code of the current mode may have the selector, and what it names is all 4 GiB.
  private func isFlat(_ selector: UInt64, isCode: Bool, _ processor: VirtualProcessor) -> Bool {
    let kernel = isCode ? Selectors.kernelCode32 : Selectors.kernelData32
    let user = isCode ? Selectors.userCode32 : Selectors.userData32
    if selector == user { return !isCode || processor.mode == .user }
    if selector == kernel { return processor.mode == .kernel }
    guard let segment = descriptor(UInt16(truncatingIfNeeded: selector), processor) else { return false }
    let level: UInt8 = processor.mode == .kernel ? 1 : 3
    return segment.isPresent && segment.isSegment && segment.isFlat && segment.is32Bit && segment.isCode == isCode
      && (isCode ? segment.privilegeLevel == level : segment.privilegeLevel >= level)
  }

  /// A load of a selector whose segment is one, but not present: the host's table doesn't have it at all.
  private func absentSegmentVector(_ bytes: [UInt8], _ errorCode: UInt64, _ processor: VirtualProcessor) -> UInt8? {
    guard errorCode > 3, var instruction = GuestInstruction(bytes), instruction.opcode == 0x8e, instruction.readModRM(),
      let segment = descriptor(UInt16(truncatingIfNeeded: errorCode), processor), !segment.isPresent, segment.isSegment,
      instruction.register == 2 ? segment.isWritable : segment.isReadable, segment.privilegeLevel == 3
    else { return nil }
    return instruction.register == 2 ? 12 : 11
  }

  private func farPointer(_ address: UInt64, _ size: UInt64, _ root: UInt64) throws(XenError) -> (UInt64, UInt64) {
    if size == 8 {
      return (try read(UInt64.self, address, root: root), try read(UInt64.self, address &+ 8, root: root))
    }
    return (
      UInt64(try read(UInt32.self, address, root: root)), UInt64(try read(UInt32.self, address &+ 4, root: root))
    )
  }

  /// A load from the machine-to-physical table. Whether it was one.
  func emulateTableLoad(
    _ address: UInt64, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    guard layout == .bits64, processor.mode == .kernel, address >= Self.machineToPhysical else { return false }
    let frame = (address - Self.machineToPhysical) / 8
    guard frame < frames.all.upperBound, var instruction = GuestInstruction(instructionBytes(processor, registers)),
      instruction.opcode == 0x8b, instruction.readModRM(), instruction.namesMemory,
      instruction.address(registers) == address
    else { return false }
    let entry = pseudoPhysicalFrame(frame) ?? .max
    let value = entry >> (address % 8 * 8)
    registers.setGeneral(instruction.register, instruction.isWide ? value : value & 0xffff_ffff)
    registers.rip &+= UInt64(instruction.position)
    return true
  }
}
