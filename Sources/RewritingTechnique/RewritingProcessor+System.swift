// The two-byte opcodes among the sensitive instructions: control and debug registers, descriptor tables, MSRs, fast
// system calls, CPUID, the time stamp, FXSAVE.

import CLinux
import CWorldSwitch
import Devices
import Glibc
import InstructionSet
import VMM
import X86

extension RewritingProcessor {
  func emulateTwoBytes(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    switch instruction.opcode {
    case 0x00:
      try emulateGroup6(instruction, next)
    case 0x02, 0x03:
      try emulateLoadRights(instruction, next)
    case 0x01:
      guard try emulateGroup7(instruction, next) else { return false }
    case 0x05:
      try control.noting(.systemCall) { () throws(Interruption) in try systemCall(next) }
      return true
    case 0x07:
      try control.noting(.returnToUser) { () throws(Interruption) in try systemReturn(instruction) }
      return true
    case 0x06:
      control.clearTaskSwitched()
    case 0x08, 0x09: break  // INVD, WBINVD: caches are the host's
    case 0x20, 0x22:
      let number = Int(instruction.reg | instruction.rex << 1 & 8)
      let register = GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
      let size = mode.bits == .bits64 ? 8 : 4
      if instruction.opcode == 0x20 {
        setGeneral(register, readControl(number), size: size)
      } else {
        try writeControl(number, general(register, size: size))
      }
    case 0x21, 0x23:
      // General detect: a fault that turns itself off (AMD64 APM vol. 2, 13.1.1.4).
      if debug.dr7 & DebugBit.generalDetect != 0 {
        _ = debugTrap(DebugBit.debugRegisterAccess)
        throw .exception(.debugGuard)
      }
      let register = GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
      let size = mode.bits == .bits64 ? 8 : 4
      if instruction.opcode == 0x21 {
        setGeneral(register, try readDebug(Int(instruction.reg)), size: size)
      } else {
        try writeDebug(Int(instruction.reg), general(register, size: size))
      }
    case 0x30:
      let value = general(.rdx, size: 4) << 32 | general(.rax, size: 4)
      try writeModelSpecific(UInt32(truncatingIfNeeded: general(.rcx)), value)
    case 0x32:
      let value = try readModelSpecific(UInt32(truncatingIfNeeded: general(.rcx)))
      setGeneral(.rax, value & 0xffff_ffff)
      setGeneral(.rdx, value >> 32)
    case 0x33:
      // AMD's processors always have four counters, which here count nothing (`FamilyRegister`).
      guard cpl == 0 || system.cr4 & 0x100 != 0, general(.rcx, size: 4) < 4 else { throw .exception(.general) }
      setGeneral(.rax, 0)
      setGeneral(.rdx, 0)
    case 0x31:
      guard cpl == 0 || system.cr4 & 4 == 0 else { throw .exception(.general) }
      setTimestamp()
    case 0x34, 0x35:
      // Not in long mode on AMD (AMD64 APM vol. 3, "SYSENTER").
      guard !isLongMode else { throw .exception(.invalidOpcode) }
      if instruction.opcode == 0x34 { try systemEnter() } else { try systemExit() }
      return true
    case 0xa2:
      identify()
    case 0xa0, 0xa8:
      try push(UInt64(segment(instruction.opcode == 0xa0 ? .fs : .gs).selector), size: Int(instruction.operandSize))
    case 0xa1, 0xa9:
      try popSegment(instruction.opcode == 0xa1 ? .fs : .gs, size: Int(instruction.operandSize))
    case 0xb2, 0xb4, 0xb5:
      try loadFarPointer(instruction.opcode == 0xb2 ? .ss : instruction.opcode == 0xb4 ? .fs : .gs, instruction, next)
    case 0xc7:
      // RDRAND; RDSEED is not announced.
      guard !instruction.hasModRMMemory, instruction.reg == 6 else { return false }
      try drawRandom(instruction)
    case 0xae:
      guard try emulateGroup15(instruction, next) else { return false }
    default: return false
    }
    rip = next
    return true
  }

  private func emulateGroup6(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard system.cr0 & 1 != 0 else { throw .exception(.invalidOpcode) }
    switch instruction.reg {
    case 0: try writeSelector(system.ldt.selector, instruction, next)
    case 1: try writeSelector(system.task.selector, instruction, next)
    case 2, 3:
      let selector = UInt16(truncatingIfNeeded: try readRM(instruction, next, size: 2))
      try loadSystemSegment(selector, isTask: instruction.reg == 3)
    default: try verify(instruction, next)
    }
  }

  private func emulateGroup7(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    guard let memory = instruction.memoryOperand else {
      switch instruction.modRM {
      case 0xca, 0xcb:  // CLAC, STAC
        try control.noting(.otherAccess) { () throws(Interruption) in
          if instruction.modRM == 0xca {
            control.flags.remove(.alignmentCheck)
          } else {
            control.flags.insert(.alignmentCheck)
          }
        }
      case 0xf8:
        guard mode.bits == .bits64 else { throw .exception(.invalidOpcode) }
        (control.gsBase, control.kernelGSBase) = (control.kernelGSBase, control.gsBase)
      case 0xf9:
        guard cpl == 0 || system.cr4 & 4 == 0 else { throw .exception(.general) }
        setTimestamp()
        setGeneral(.rcx, modelSpecific[ModelSpecific.timestampAuxiliary] ?? 0)
      case 0xc1, 0xd9: callMonitor()
      case 0xd0: try getExtendedControl()
      case 0xd1: try setExtendedControl()
      case 0xe0...0xe7:
        let status = system.cr0
        let register = GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
        setGeneral(register, status, size: Int(instruction.operandSize))
      case 0xf0...0xf7:
        try loadStatusWord(try readRM(instruction, next, size: 2))
      default: return false
      }
      return true
    }
    let baseSize = is64 ? 8 : 4
    let size = [baseSize + 2, baseSize + 2, baseSize + 2, baseSize + 2, 2, 2, 2, 1][Int(instruction.reg)]
    let isWrite = instruction.reg < 2 || instruction.reg == 4
    if instruction.reg == 7 {
      // No access, so that neither a limit nor a non-canonical address is a fault (AMD64 APM vol. 3, "INVLPG").
      let offset = offset(memory, next)
      let isFlat = is64 && memory.segment != .fs && memory.segment != .gs
      let address = isFlat ? offset : offset &+ segment(memory.segment).base
      translations.flush(page: is64 ? address : address & 0xffff_ffff)
      return true
    }
    let address = try linear(memory, next, size: size, isWrite: isWrite)
    switch instruction.reg {
    case 0, 1:
      guard cpl == 0 || system.cr4 & 0x800 == 0 else { throw .exception(.general) }
      let table = instruction.reg == 0 ? system.gdt : system.idt
      _ = try locate(address, count: baseSize + 2, .write)
      try save(address, UInt64(table.limit), size: 2)
      try save(address &+ 2, table.base, size: baseSize)
    case 2, 3:
      let limit = UInt16(truncatingIfNeeded: try load(address, size: 2))
      var base = try load(address &+ 2, size: baseSize)
      if mode.bits != .bits64, instruction.operandSize == 2 { base &= 0xff_ffff }
      if mode.bits == .bits64, !LinearAddress.isCanonical(base) { throw .exception(.general) }
      if instruction.reg == 2 {
        control.globalTable = DescriptorTable(base: base, limit: limit)
      } else {
        control.interruptTable = DescriptorTable(base: base, limit: limit)
      }
    case 4: try save(address, system.cr0 & 0xffff, size: 2)
    case 6: try loadStatusWord(try load(address, size: 2))
    default: return false
    }
    return true
  }

  /// LMSW: four bits, of which PE can only be set.
  private func loadStatusWord(_ value: UInt64) throws(Interruption) {
    let kept = system.cr0 & ~0xe
    try writeControl(0, kept | value & 0xf)
  }

  private func emulateGroup15(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    if !instruction.hasModRMMemory {
      // RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE.
      guard instruction.simdPrefix == 2, instruction.reg < 4 else { return false }
      guard mode.bits == .bits64, system.cr4 & 0x1_0000 != 0 else { throw .exception(.invalidOpcode) }
      let register = GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
      let size = Int(instruction.operandSize)
      switch instruction.reg {
      case 0: setGeneral(register, system.fs.base, size: size)
      case 1: setGeneral(register, system.gs.base, size: size)
      default:
        let value = general(register, size: size)
        guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
        if instruction.reg == 2 { control.fsBase = value } else { control.gsBase = value }
      }
      return true
    }
    guard instruction.simdPrefix == 0 else { return false }
    switch instruction.reg {
    case 0, 1: try emulateFXSAVE(instruction)
    case 4, 5, 6: try emulateXSAVE(instruction)
    default: return false
    }
    return true
  }

  // MARK: Fast system calls

  private func systemCall(_ next: UInt64) throws(Interruption) {
    guard system.efer & 1 != 0, system.cr0 & 1 != 0 else { throw .exception(.invalidOpcode) }
    guard isLongMode else {
      legacySystemCall(next)
      return
    }
    let mask = modelSpecific[ModelSpecific.flagMask] ?? 0
    let flags = rflags
    setGeneral(.rcx, next)
    setGeneral(.r11, flags & ~0x1_0000)
    let target = modelSpecific[
      mode.bits == .bits64 ? ModelSpecific.longTarget : ModelSpecific.compatibilityTarget]
    (control.code, control.stack) = control.callSegments()
    cpl = 0
    rflags = flags & ~mask & ~0x1_0000
    rip = target ?? 0
    isTrapping = systemFlags & Self.trapFlag != 0
  }

  private func systemReturn(_ instruction: Instruction) throws(Interruption) {
    guard system.efer & 1 != 0 else { throw .exception(.invalidOpcode) }
    guard system.cr0 & 1 != 0, cpl == 0 else { throw .exception(.general) }
    let wasIn64 = is64
    (control.code, control.stack) = control.returnSegments()
    if instruction.rexW {
      rip = general(.rcx)
    } else {
      let base = UInt16(truncatingIfNeeded: (modelSpecific[ModelSpecific.star] ?? 0) >> 48)
      var code = Segment.flatCode32(selector: base | 3)
      code.attributes |= 0x60
      control.code = code
      rip = general(.rcx, size: 4)
    }
    cpl = 3
    rflags = wasIn64 ? general(.r11) & 0x3c_7fd7 | 2 : rflags & ~0x2_0000 | 0x200
    isTrapping = systemFlags & Self.trapFlag != 0
  }

  // MARK: Identification and time

  private func setTimestamp() {
    let value = timestamp
    setGeneral(.rax, value & 0xffff_ffff)
    setGeneral(.rdx, value >> 32)
  }

  private func identify() {
    let function = UInt32(truncatingIfNeeded: general(.rax))
    let table = partition.identification
    var leaf = table.leaf(function, index: UInt32(truncatingIfNeeded: general(.rcx)))
    if function == 1, system.cr4 & 0x4_0000 != 0 { leaf?.ecx |= 1 << 27 }
    if function == 0xd, general(.rcx, size: 4) == 0 { leaf?.ebx = xcr0 & 4 != 0 ? 832 : 576 }
    if function == 1, !interrupts.isEnabled { leaf?.edx &= ~(1 << 9) }
    setGeneral(.rax, UInt64(leaf?.eax ?? 0))
    setGeneral(.rbx, UInt64(leaf?.ebx ?? 0))
    setGeneral(.rcx, UInt64(leaf?.ecx ?? 0))
    setGeneral(.rdx, UInt64(leaf?.edx ?? 0))
  }

  private func drawRandom(_ instruction: Instruction) throws(Interruption) {
    var value: UInt64 = 0
    let count = withUnsafeMutableBytes(of: &value) { getrandom($0.baseAddress, $0.count, 0) }
    let register = GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
    let isDrawn = count == MemoryLayout<UInt64>.size
    setGeneral(register, isDrawn ? value : 0, size: Int(instruction.operandSize))
    setArithmeticFlags(isDrawn ? 1 : 0)
  }

  // MARK: Control and debug registers

  private func readControl(_ number: Int) -> UInt64 {
    switch number {
    case 0: system.cr0
    case 2: system.cr2
    case 3: system.cr3
    case 4: system.cr4
    default: UInt64(interrupts.taskPriority)
    }
  }

  private func writeControl(_ number: Int, _ value: UInt64) throws(Interruption) {
    switch number {
    case 0: try writeCR0(value)
    case 2:
      control.cr2 = value
    case 3:
      guard value >> 40 & 0x7f_ffff == 0 else { throw .exception(.general) }
      if system.cr4 & 0x20 != 0, !isLongMode, system.cr0 >> 31 != 0 { try loadPointerTable(value) }
      control.set(cr3: value)
    case 4: try writeCR4(value)
    default:
      guard value < 16 else { throw .exception(.general) }
      interrupts.taskPriority = UInt8(truncatingIfNeeded: value)
    }
  }

  private func loadPointerTable(_ root: UInt64) throws(Interruption) {
    do throws(GuestException) {
      try mmu.loadPointerTable(from: root)
    } catch {
      throw .exception(error)
    }
  }

  private func writeCR0(_ value: UInt64) throws(Interruption) {
    // AMD: reserved bits above 31 are #GP, others ignored; ET is always set (AMD64 APM vol. 2, 3.1.1).
    guard value >> 32 == 0 else { throw .exception(.general) }
    let protects = value & 1 != 0
    let pages = value >> 31 != 0
    guard protects || !pages, value & 0x2000_0000 == 0 || value & 0x4000_0000 != 0 else {
      throw .exception(.general)
    }
    let wasPaging = system.cr0 >> 31 != 0
    var efer = system.efer
    if pages, !wasPaging {
      if efer & 0x100 != 0 {
        guard system.cr4 & 0x20 != 0, system.cs.attributes & 0x2000 == 0 else { throw .exception(.general) }
        efer |= 0x400
      } else if system.cr4 & 0x20 != 0 {
        try loadPointerTable(system.cr3)
      }
    } else if pages, !isLongMode, system.cr4 & 0x20 != 0, (value ^ system.cr0) & 0x6000_0000 != 0 {
      // A change of CD or NW loads it, too.
      try loadPointerTable(system.cr3)
    }
    if !pages, wasPaging, efer & 0x400 != 0 {
      guard mode.bits != .bits64 else { throw .exception(.general) }
      efer &= ~0x400
    }
    control.set(
      cr0: CR0(rawValue: value).intersection(.defined).union(.extensionType), efer: EFER(rawValue: efer))
  }

  private func writeCR4(_ value: UInt64) throws(Interruption) {
    // TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP; MCE, FSGSBASE, SMEP, SMAP as announced.
    var allowed: UInt64 = 0xfbc & ~0x40
    let table = partition.identification
    if table.has(.mce) { allowed |= 1 << 6 }
    if table.has(.fsgsbase) { allowed |= 1 << 16 }
    if table.has(.xsave) { allowed |= 1 << 18 }
    if table.has(.smep) { allowed |= 1 << 20 }
    if table.has(.smap) { allowed |= 1 << 21 }
    if !isUMIPAnnounced { allowed &= ~0x800 }
    guard value & ~allowed == 0 else { throw .exception(.general) }
    if isLongMode, value & 0x20 == 0 { throw .exception(.general) }
    let changes = value ^ system.cr4
    // PSE, PAE, PGE, SMEP.
    if !isLongMode, system.cr0 >> 31 != 0, value & 0x20 != 0, changes & 0x10_00b0 != 0 {
      try loadPointerTable(system.cr3)
    }
    control.set(cr4: CR4(rawValue: value))
  }

  private var isUMIPAnnounced: Bool { (partition.identification.leaf(7)?.ecx ?? 0) & 4 != 0 }

  private func readDebug(_ number: Int) throws(Interruption) -> UInt64 {
    switch number {
    case 0...3: return debug.addresses[number]
    case 4, 5:
      guard system.cr4 & 8 == 0 else { throw .exception(.invalidOpcode) }
      return number == 4 ? debug.dr6 : debug.dr7
    case 6: return debug.dr6
    default: return debug.dr7
    }
  }

  private func writeDebug(_ number: Int, _ value: UInt64) throws(Interruption) {
    if number == 4 || number == 5, system.cr4 & 8 != 0 { throw .exception(.invalidOpcode) }
    switch number {
    case 0...3: debug.addresses[number] = value
    case 4, 6:
      guard value >> 32 == 0 else { throw .exception(.general) }
      debug.dr6 = value & 0xe00f | 0xffff_0ff0
    default:
      guard value >> 32 == 0 else { throw .exception(.general) }
      debug.dr7 = DR7(written: value).rawValue
    }
  }
}
