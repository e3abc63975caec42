// The sensitive instructions that change control state: control and debug registers, descriptor tables, MSRs; and those
// that read what is the processor's alone: CPUID, the time stamp.

import CLinux
import CWorldSwitch
import Devices
import Glibc
import InstructionSet
import VMM
import X86

extension RewritingProcessor {
  /// - Returns: `false` if it is none of these.
  func emulateSystem(_ instruction: Instruction) throws(Interruption) -> Bool {
    let next = nextRIP(instruction)
    let size = Int(instruction.operandSize)
    switch instruction.operation {
    case .clts: control.clearTaskSwitched()
    case .movFromControl, .movToControl:
      // The width is the mode's, whatever a prefix says.
      let width = is64 ? 8 : 4
      if instruction.operation == .movFromControl {
        setGeneral(instruction.registerOfRM, readControl(Int(instruction.numberOfReg)), size: width)
      } else {
        try writeControl(Int(instruction.numberOfReg), general(instruction.registerOfRM, size: width))
      }
    case .movFromDebug, .movToDebug:
      // General detect: a fault that turns itself off (AMD64 APM vol. 2, 13.1.1.4).
      if debug.dr7 & DR7.generalDetect.rawValue != 0 {
        _ = debugTrap(.registerAccess)
        throw .exception(.debugGuard)
      }
      let width = is64 ? 8 : 4
      if instruction.operation == .movFromDebug {
        setGeneral(instruction.registerOfRM, try readDebug(Int(instruction.reg)), size: width)
      } else {
        try writeDebug(Int(instruction.reg), general(instruction.registerOfRM, size: width))
      }
    case .wrmsr: try writeModelSpecific(UInt32(truncatingIfNeeded: self[.rcx]), wideAccumulator)
    case .rdmsr: wideAccumulator = try readModelSpecific(UInt32(truncatingIfNeeded: self[.rcx]))
    case .rdpmc:
      // AMD's processors always have four counters, which here count nothing (`FamilyRegister`).
      guard cpl == 0 || cr4.contains(.performanceCounters), general(.rcx, size: 4) < 4 else {
        throw .exception(.general)
      }
      wideAccumulator = 0
    case .rdtsc, .rdtscp:
      guard cpl == 0 || !cr4.contains(.timeStampDisable) else { throw .exception(.general) }
      wideAccumulator = timestamp
      if instruction.operation == .rdtscp { self[.rcx] = modelSpecific(ModelSpecific.timestampAuxiliary) }
    case .cpuid: identify()
    case .rdrand: try drawRandom(instruction)
    case .swapgs:
      guard is64 else { throw .exception(.invalidOpcode) }
      (control.gsBase, control.kernelGSBase) = (control.kernelGSBase, control.gsBase)
    case .rdfsbase, .rdgsbase, .wrfsbase, .wrgsbase: try moveBase(instruction)
    case .vmcall, .vmmcall: callMonitor()
    case .xgetbv: try getExtendedControl()
    case .xsetbv: try setExtendedControl()
    case .smsw:
      if instruction.hasModRMMemory {
        try writeSelector(UInt16(truncatingIfNeeded: system.cr0), instruction, next)
      } else {
        setGeneral(instruction.registerOfRM, system.cr0, size: size)
      }
    case .lmsw: try loadStatusWord(try readRM(instruction, next, size: 2))
    case .sgdt, .sidt, .lgdt, .lidt, .invlpg: try moveTable(instruction, next)
    default: return false
    }
    rip = next
    return true
  }

  private func moveTable(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let baseSize = is64 ? 8 : 4
    switch instruction.operation {
    case .invlpg:
      // No access, so that neither a limit nor a non-canonical address is a fault (AMD64 APM vol. 3, "INVLPG").
      let offset = offset(memory, next)
      let isFlat = is64 && memory.segment != .fs && memory.segment != .gs
      let address = isFlat ? offset : offset &+ segment(memory.segment).base
      translations.flush(page: is64 ? address : address & 0xffff_ffff)
    case .sgdt, .sidt:
      let address = try linear(memory, next, size: baseSize + 2, isWrite: true)
      let table = instruction.operation == .sgdt ? gdt : idt
      try check(address, count: baseSize + 2, .write)
      try save(address, UInt64(table.limit), size: 2)
      try save(address &+ 2, table.base, size: baseSize)
    default:
      let address = try linear(memory, next, size: baseSize + 2, isWrite: false)
      let limit = UInt16(truncatingIfNeeded: try load(address, size: 2))
      var base = try load(address &+ 2, size: baseSize)
      if !is64, instruction.operandSize == 2 { base &= 0xff_ffff }
      if is64, !LinearAddress.isCanonical(base) { throw .exception(.general) }
      let table = DescriptorTable(base: base, limit: limit)
      if instruction.operation == .lgdt { gdt = table } else { idt = table }
    }
  }

  /// LMSW: four bits, of which PE can only be set.
  private func loadStatusWord(_ value: UInt64) throws(Interruption) {
    let changed = CR0.statusWord.subtracting(.protectedMode)
    try writeControl(0, cr0.subtracting(changed).union(CR0(rawValue: value).intersection(.statusWord)).rawValue)
  }

  private func moveBase(_ instruction: Instruction) throws(Interruption) {
    guard is64, cr4.contains(.fsgsbase) else { throw .exception(.invalidOpcode) }
    let size = Int(instruction.operandSize)
    switch instruction.operation {
    case .rdfsbase: setGeneral(instruction.registerOfRM, control.fsBase, size: size)
    case .rdgsbase: setGeneral(instruction.registerOfRM, control.gsBase, size: size)
    default:
      let value = general(instruction.registerOfRM, size: size)
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      if instruction.operation == .wrfsbase { control.fsBase = value } else { control.gsBase = value }
    }
  }

  // MARK: Extended control register

  /// What XCR0 may enable.
  var supportedComponents: XCR0 {
    let table = partition.identification
    guard table.has(.xsave) else { return .x87 }
    return table.has(.avx) ? [.x87, .sse, .avx] : [.x87, .sse]
  }

  private func getExtendedControl() throws(Interruption) {
    guard cr4.contains(.osXSAVE) else { throw .exception(.invalidOpcode) }
    guard general(.rcx, size: 4) == 0 else { throw .exception(.general) }
    wideAccumulator = xcr0.rawValue
  }

  private func setExtendedControl() throws(Interruption) {
    guard cr4.contains(.osXSAVE) else { throw .exception(.invalidOpcode) }
    guard cpl == 0 else { throw .exception(.general) }
    let value = XCR0(rawValue: wideAccumulator)
    guard general(.rcx, size: 4) == 0, value.isSubset(of: supportedComponents), value.contains(.x87),
      !value.contains(.avx) || value.contains(.sse)
    else { throw .exception(.general) }
    control.xcr0 = value
  }

  // MARK: Identification and time

  private func identify() {
    let function = UInt32(truncatingIfNeeded: general(.rax))
    let table = partition.identification
    var leaf = table.leaf(function, index: UInt32(truncatingIfNeeded: general(.rcx)))
    if function == 1, system.cr4 & 0x4_0000 != 0 { leaf?.ecx |= 1 << 27 }
    if function == 0xd, general(.rcx, size: 4) == 0 {
      leaf?.ebx = UInt32(xcr0.contains(.avx) ? ExtendedArea.size : ExtendedArea.upperHalves)
    }
    if function == 1, !interrupts.isEnabled { leaf?.edx &= ~(1 << 9) }
    setGeneral(.rax, UInt64(leaf?.eax ?? 0))
    setGeneral(.rbx, UInt64(leaf?.ebx ?? 0))
    setGeneral(.rcx, UInt64(leaf?.ecx ?? 0))
    setGeneral(.rdx, UInt64(leaf?.edx ?? 0))
  }

  private func drawRandom(_ instruction: Instruction) throws(Interruption) {
    var value: UInt64 = 0
    let count = withUnsafeMutableBytes(of: &value) { getrandom($0.baseAddress, $0.count, 0) }
    let isDrawn = count == MemoryLayout<UInt64>.size
    setGeneral(instruction.registerOfRM, isDrawn ? value : 0, size: Int(instruction.operandSize))
    arithmeticFlags = isDrawn ? .carry : []
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
