import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// MOV to and from CRn, CLTS, SMSW and LMSW (AMD64 APM vol. 2, 3.1; vol. 3).
struct ControlRegisterMove<Context: SystemContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    switch instruction.operation {
    case .clts: context.clearTaskSwitched()
    case .smsw:
      if instruction.hasModRMMemory {
        try context.writeSelector(UInt16(truncatingIfNeeded: context.cr0.rawValue), instruction, next)
      } else {
        context.setGeneral(instruction.registerOfRM, context.cr0.rawValue, size: Int(instruction.operandSize))
      }
    case .lmsw: try loadStatusWord(CR0(rawValue: try context.readRM(instruction, next, size: 2)))
    default:
      // The width is the mode's, whatever a prefix says.
      let size = context.is64 ? 8 : 4
      let register = instruction.registerOfRM
      if instruction.operation == .movFromControl {
        context.setGeneral(register, read(instruction.numberOfReg), size: size)
      } else {
        try write(instruction.numberOfReg, context.general(register, size: size))
      }
    }
    context.rip = next
  }

  /// In what is written to CR3 with CR4.PCIDE: translations may stay. It is never read back.
  private static var keepsTranslations: UInt64 { 1 << 63 }

  private func read(_ number: UInt8) -> UInt64 {
    switch number {
    case 0: context.cr0.rawValue
    case 2: context.cr2
    case 3: context.cr3
    case 4: context.cr4.rawValue
    default: UInt64(context.taskPriority)
    }
  }

  private func write(_ number: UInt8, _ value: UInt64) throws(Interruption) {
    switch number {
    case 0: try write(cr0: value)
    case 2: context.cr2 = value
    case 3:
      // Bits 40 to 62 (AMD64 APM vol. 2, 5.3.2): physical addresses have 40 bits; bit 63 is one of them without numbers.
      let hasNumbers = context.cr4.contains(.processContextIdentifiers)
      let table = hasNumbers ? value & ~Self.keepsTranslations : value
      guard table >> 40 == 0 else { throw .exception(.general) }
      if usesPointerTable { try loadPointerTable(table) }
      context.set(cr3: table, keepsTranslations: value != table)
    case 4: try write(cr4: CR4(rawValue: value))
    default:
      guard value < 16 else { throw .exception(.general) }
      context.taskPriority = UInt8(truncatingIfNeeded: value)
    }
  }

  /// LMSW: four bits, of which PE can only be set.
  private func loadStatusWord(_ value: CR0) throws(Interruption) {
    let kept = context.cr0.subtracting(CR0.statusWord.subtracting(.protectedMode))
    try write(cr0: kept.union(value.intersection(.statusWord)).rawValue)
  }

  /// Paging with PAE outside long mode, which keeps the four top entries in the processor.
  private var usesPointerTable: Bool {
    context.cr0.contains(.paging) && context.cr4.contains(.physicalAddressExtension) && !context.isLongMode
  }

  private func loadPointerTable(_ root: UInt64) throws(Interruption) {
    do throws(GuestException) {
      try context.loadPointerTable(from: root)
    } catch {
      throw .exception(error)
    }
  }

  private func write(cr0 value: UInt64) throws(Interruption) {
    // AMD: reserved bits above 31 are #GP, others ignored; ET is always set (AMD64 APM vol. 2, 3.1.1).
    guard value >> 32 == 0 else { throw .exception(.general) }
    let (old, new) = (context.cr0, CR0(rawValue: value))
    guard new.contains(.protectedMode) || !new.contains(.paging),
      new.contains(.cacheDisable) || !new.contains(.notWriteThrough)
    else { throw .exception(.general) }
    let hasPAE = context.cr4.contains(.physicalAddressExtension)
    var efer = context.efer
    if new.contains(.paging), !old.contains(.paging) {
      if efer.contains(.longModeEnable) {
        guard hasPAE, !context.segment(.cs).rights.contains(.long) else { throw .exception(.general) }
        efer.insert(.longModeActive)
      } else if hasPAE {
        try loadPointerTable(context.cr3)
      }
    } else if new.contains(.paging), usesPointerTable,
      !new.symmetricDifference(old).isDisjoint(with: [.cacheDisable, .notWriteThrough])
    {
      // A change of CD or NW loads it, too.
      try loadPointerTable(context.cr3)
    }
    if !new.contains(.paging), context.cr4.contains(.processContextIdentifiers) { throw .exception(.general) }
    if !new.contains(.paging), old.contains(.paging), efer.contains(.longModeActive) {
      guard !context.is64 else { throw .exception(.general) }
      efer.remove(.longModeActive)
    }
    context.set(cr0: new.intersection(.defined).union(.extensionType), efer: efer)
  }

  /// What CPUID announces can be switched on.
  private var allowed: CR4 {
    let table = context.identification
    var bits: CR4 = [
      .timeStampDisable, .debuggingExtensions, .pageSizeExtensions, .physicalAddressExtension, .pageGlobal,
      .performanceCounters, .osFXSR, .osXMMExceptions,
    ]
    if table.has(.vme) { bits.formUnion([.virtual8086Extensions, .protectedModeVirtualInterrupts]) }
    if table.has(.mce) { bits.insert(.machineCheck) }
    if table.has(.pcid) { bits.insert(.processContextIdentifiers) }
    if table.has(.umip) { bits.insert(.userModeInstructionPrevention) }
    if table.has(.fsgsbase) { bits.insert(.fsgsbase) }
    if table.has(.xsave) { bits.insert(.osXSAVE) }
    if table.has(.smep) { bits.insert(.supervisorExecutionPrevention) }
    if table.has(.smap) { bits.insert(.supervisorAccessPrevention) }
    if table.has(.pku) { bits.insert(.protectionKeys) }
    return bits
  }

  private func write(cr4 new: CR4) throws(Interruption) {
    guard new.isSubset(of: allowed) else { throw .exception(.general) }
    let hasPAE = new.contains(.physicalAddressExtension)
    if context.isLongMode, !hasPAE { throw .exception(.general) }
    if new.contains(.processContextIdentifiers), !context.cr4.contains(.processContextIdentifiers) {
      // Only in long mode, and with PCID 0 (AMD64 APM vol. 2, 5.5.1).
      guard context.isLongMode, context.cr3 & CR3.processContext == 0 else { throw .exception(.general) }
    }
    let loading: CR4 = [
      .pageSizeExtensions, .physicalAddressExtension, .pageGlobal, .supervisorExecutionPrevention,
    ]
    if !context.isLongMode, context.cr0.contains(.paging), hasPAE,
      !new.symmetricDifference(context.cr4).isDisjoint(with: loading)
    {
      try loadPointerTable(context.cr3)
    }
    context.set(cr4: new)
  }
}
