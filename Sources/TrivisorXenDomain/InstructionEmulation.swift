// What a paravirtual kernel executes all the same. It traps, and is done in the guest's place: the list is Xen's
// (arch/x86/pv/emul-priv-op.c): IN and OUT, CLI and STI, moves to and from control and debug registers, CLTS, WBINVD,
// RDMSR and WRMSR, RDTSC, CPUID behind its prefix, XSETBV. What is not on it goes back to the guest as an exception.
//
// Beyond that list stands what natively run code meets because the host's selectors are not Xen's: loads of Xen's flat
// selectors, far transfers to them, and the machine-to-physical table, whose address no process can map.

import TrivisorBoot
import TrivisorVMM
import TrivisorX86

struct InstructionEmulation {
  let processor: DomainProcessor

  var domain: Domain { processor.domain }
  var layout: SharedLayout { processor.domain.layout }
  var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  /// General protection: an instruction to emulate, a software interrupt, or the guest's affair.
  func generalProtection(_ errorCode: UInt64) {
    // The code names a vector: INT without the host's leave.
    if errorCode & 3 == 2 {
      let vector = Int(errorCode >> 3 & 0xff)
      if layout == .bits32, vector == 0x82, processor.mode == .kernel {
        registers.rip &+= 2
        processor.count(.hypercallByInterrupt)
        return Hypercall.perform(processor)
      }
      return softwareInterrupt(vector, length: 2, errorCode)
    }
    let bytes = processor.instructionBytes()
    if errorCode == 0, emulate(bytes) {
      processor.count(.privileged)
      return
    }
    if domain.abilities.contains(.segments) { return raiseGeneralProtection(errorCode) }
    if layout == .bits32, SegmentEmulation32(processor: processor).emulate(bytes) {
      processor.count(.selector)
      return
    }
    if layout == .bits64 {
      let segments = SegmentEmulation(processor: processor)
      if segments.emulate(bytes) {
        processor.count(.selector)
        return
      }
      if let vector = segments.absentVector(bytes, errorCode) {
        processor.trapCounts.add(exception: vector, isUser: processor.mode == .user)
        return processor.delivery.raise(vector: vector, errorCode: errorCode)
      }
    }
    raiseGeneralProtection(errorCode)
  }

  private func raiseGeneralProtection(_ errorCode: UInt64) {
    processor.trapCounts.add(
      exception: ExceptionVector.generalProtection.rawValue, isUser: processor.mode == .user)
    processor.delivery.raise(vector: ExceptionVector.generalProtection.rawValue, errorCode: errorCode)
  }

  /// INT n: the guest's own handler if it lets this mode call it.
  func softwareInterrupt(
    _ vector: Int, length: UInt64, _ errorCode: UInt64
  ) {
    processor.count(.softwareInterrupt)
    let entry = processor.traps[vector & 0xff]
    // The kernel counts as level 1, unless it wants to be level 0 in this; its user code as level 3.
    let level: UInt8 = processor.mode == .user ? 3 : domain.showsIOPrivilege ? 0 : 1
    let isAllowed = entry.privilegeLevel >= level
    guard entry.address != 0, isAllowed else {
      return processor.delivery.raise(vector: ExceptionVector.generalProtection.rawValue, errorCode: errorCode)
    }
    registers.rip &+= length
    processor.delivery.raise(vector: UInt8(vector & 0xff), errorCode: nil)
  }

  /// Xen's list. Whether it was done.
  private func emulate(
    _ bytes: InstructionBytes
  ) -> Bool {
    guard var instruction = GuestInstruction(bytes, is64Bit: registers.isIn64BitCode) else { return false }
    // The kernel counts as level 1, unless it has said that it wants to be level 0 in this; its user code as level 3.
    let isKernel = processor.mode == .kernel
    let mayUsePorts = processor.ioPrivilege >= (isKernel ? domain.showsIOPrivilege ? 0 : 1 : 3)
    switch instruction.opcode {
    case 0xfa, 0xfb:
      guard mayUsePorts else { return false }
    case 0xe4...0xe7, 0xec...0xef:
      // A domain without devices reads all ones, and what it writes is lost, but for the timer that Xen gives it.
      var port = UInt16(truncatingIfNeeded: registers.rdx)
      if instruction.opcode < 0xe8 {
        guard let immediate = instruction.immediate() else { return false }
        port = UInt16(immediate)
      }
      guard mayUsePorts || mayUse(port, size: Self.portSize(instruction)) else { return false }
      let isByte = instruction.opcode & 1 == 0
      if isByte, SpeakerTimer.has(port) {
        let now = domain.time.now
        if instruction.opcode & 2 == 0 {
          registers.rax = registers.rax & ~0xff | UInt64(domain.speaker.read(port, at: now))
        } else {
          domain.speaker.write(port, UInt8(truncatingIfNeeded: registers.rax), at: now)
        }
      } else if instruction.opcode & 2 == 0 {
        let mask: UInt64 = isByte ? 0xff : instruction.operandPrefix ? 0xffff : 0xffff_ffff
        registers.rax = isByte || instruction.operandPrefix ? registers.rax | mask : mask
      }
    case 0x6c...0x6f:
      // What is written here goes by the kernel's rights.
      guard mayUsePorts || mayUse(UInt16(truncatingIfNeeded: registers.rdx), size: Self.portSize(instruction)),
        !processor.view.isUsers, movePortString(instruction)
      else { return false }
    // The rest is for kernels.
    case _ where !isKernel: return false
    case 0x0f06: processor.isTaskSwitched = false
    case 0x0f09: break
    case 0x0f20, 0x0f22:
      guard instruction.readModRM() else { return false }
      guard moveControlRegister(instruction) else { return false }
    case 0x0f21, 0x0f23:
      guard instruction.readModRM() else { return false }
      let number =
        instruction.register == 4 || instruction.register == 5 ? instruction.register + 2 : instruction.register
      guard [0, 1, 2, 3, 6, 7].contains(number) else { return false }
      if instruction.opcode == 0x0f21 {
        registers.setGeneral(instruction.baseRegister, processor.debugRegisters[number])
      } else {
        let value = registers.general(instruction.baseRegister)
        guard (try? processor.setDebugRegister(UInt64(number), value)) != nil else { return false }
      }
    case 0x0f30, 0x0f32:
      guard moveModelSpecificRegister(instruction.opcode == 0x0f30) else { return false }
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

  private static func portSize(_ instruction: GuestInstruction) -> UInt64 {
    instruction.opcode & 1 == 0 ? 1 : instruction.operandPrefix ? 2 : 4
  }

  /// Whether the guest's own bitmap (PHYSDEVOP_set_iobitmap) permits ports that its level does not.
  private func mayUse(_ port: UInt16, size: UInt64) -> Bool {
    let (bitmap, count) = processor.ioBitmap
    guard UInt64(port) + size <= UInt64(count) else { return false }
    for each in UInt64(port)..<(UInt64(port) + size) {
      guard let byte = try? processor.read(UInt8.self, bitmap &+ each >> 3, root: processor.root),
        byte & 1 << (each & 7) == 0
      else { return false }
    }
    return true
  }

  /// INS and OUTS: all ones, and nothing. A long string is done in pieces, between which the processor can be stopped.
  private func movePortString(
    _ instruction: GuestInstruction
  ) -> Bool {
    let size: UInt64 = instruction.opcode & 1 == 0 ? 1 : instruction.operandPrefix ? 2 : 4
    let wanted = instruction.repeats ? layout == .bits64 ? registers.rcx : registers.rcx & 0xffff_ffff : 1
    let count = min(wanted, 1024)
    let isDown = registers.rflags & Flags.direction != 0
    let step = isDown ? 0 &- size : size
    for _ in 0..<count {
      if instruction.opcode < 0x6e {
        for byte in 0..<size {
          guard (try? processor.write(UInt8.max, to: registers.rdi &+ byte, root: processor.root)) != nil else {
            return false
          }
        }
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

  /// UD2, "xen", CPUID: how a paravirtual kernel asks for the hypervisor's leaves, too.
  func emulateIdentification() -> Bool {
    let bytes = processor.instructionBytes()
    guard bytes.starts(with: [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2]) else { return false }
    let leaf = UInt32(truncatingIfNeeded: registers.rax)
    let words: (UInt32, UInt32, UInt32, UInt32)
    switch leaf {
    // "XenVMMXenVMM"; version; one hypercall page by this register.
    case 0x4000_0000: words = (0x4000_0002, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e)
    case 0x4000_0001: words = (4 << 16 | 17, 0, 0, 0)
    case 0x4000_0002: words = (0, 0, 0, 0)
    default: words = processor.identification.read(leaf, UInt32(truncatingIfNeeded: registers.rcx))
    }
    (registers.rax, registers.rbx) = (UInt64(words.0), UInt64(words.1))
    (registers.rcx, registers.rdx) = (UInt64(words.2), UInt64(words.3))
    registers.rip &+= 7
    return true
  }
}
