import TrivisorVMM
import TrivisorX86

/// RDMSR and WRMSR (AMD64 APM vol. 2, appendix A): registers that the engine acts on, and those that only remember what was
/// written. Those that the processor's family has besides are in `FamilyRegister`.
struct ModelSpecificAccess<Context: SystemContext> {
  let context: Context

  /// Eight variable ranges, fixed ranges, write-combining.
  private static var memoryTypeCapability: UInt64 { 0x508 }

  /// - Throws: #GP where there is no such register.
  func read(_ index: UInt32) throws(Interruption) -> UInt64 {
    switch index {
    case MSR.timeStampCounter: context.timestamp
    case MSR.timeStampAdjust where context.identification.has(.tsc_adjust): context.modelSpecific(index)
    case MSR.efer: context.efer.rawValue
    case MSR.fsBase: context.fsBase
    case MSR.gsBase: context.gsBase
    case MSR.kernelGSBase: context.kernelGSBase
    case MSR.star, MSR.lstar, MSR.cstar, MSR.systemCallFlagMask, MSR.timeStampAuxiliary, MSR.systemEnterCS,
      MSR.systemEnterESP, MSR.systemEnterEIP, MSR.memoryTypeDefault, MSR.memoryTypeVariableRanges,
      MSR.kvmWallClock, MSR.kvmSystemTime:
      context.modelSpecific(index)
    case MSR.pageAttributeTable: context[modelSpecific: index] ?? MSR.pageAttributeTableReset
    case MSR.microcodeRevision: UInt64(ProcessorFamily.family1A.microcodeRevision)
    case MSR.memoryTypeCapability: Self.memoryTypeCapability
    case MSR.apicBase, MSR.timeStampDeadline, MSR.x2APIC:
      if let value = context.readLocalAPIC(index) { value } else { throw .exception(.general) }
    case MSR.kvmStealTime where hasStealTime: context.modelSpecific(index)
    case let index where BranchRecord.contains(index): context.branchRecord.read(index)
    case let index where MSR.isMemoryTypeFixed(index): context.modelSpecific(index)
    default:
      if let value = readFamily(index) { value } else { throw .exception(.general) }
    }
  }

  /// - Throws: #GP where there is no such register, or it can't be written so.
  func write(_ index: UInt32, _ value: UInt64) throws(Interruption) {
    switch index {
    case MSR.timeStampCounter:
      let old = context.timestamp
      context.timestamp = value
      if context.identification.has(.tsc_adjust) {
        context[modelSpecific: MSR.timeStampAdjust] = context.modelSpecific(MSR.timeStampAdjust) &+ (value &- old)
      }
      MonitorClock(context: context).storeSystemTime()
    case MSR.timeStampAdjust where context.identification.has(.tsc_adjust):
      let change = value &- context.modelSpecific(MSR.timeStampAdjust)
      context[modelSpecific: index] = value
      context.timestamp = context.timestamp &+ change
      MonitorClock(context: context).storeSystemTime()
    case MSR.efer: try write(efer: EFER(rawValue: value))
    case MSR.fsBase, MSR.gsBase, MSR.kernelGSBase: try writeBase(index, value)
    case MSR.lstar, MSR.cstar:
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      context[modelSpecific: index] = value
    case MSR.systemCallFlagMask, MSR.timeStampAuxiliary: context[modelSpecific: index] = value & 0xffff_ffff
    case MSR.star, MSR.systemEnterCS, MSR.systemEnterESP, MSR.systemEnterEIP: context[modelSpecific: index] = value
    case MSR.microcodeRevision: break
    case MSR.pageAttributeTable:
      guard MemoryType.arePageAttributes(value) else { throw .exception(.general) }
      context[modelSpecific: index] = value
    case MSR.memoryTypeDefault, MSR.memoryTypeVariableRanges: try writeMemoryType(index, value)
    case MSR.apicBase, MSR.timeStampDeadline, MSR.x2APIC:
      guard context.writeLocalAPIC(index, value) else { throw .exception(.general) }
    case MSR.kvmWallClock, MSR.kvmSystemTime:
      context[modelSpecific: index] = value
      let clock = MonitorClock(context: context)
      if index == MSR.kvmWallClock { clock.storeWallClock(at: value) } else { clock.storeSystemTime() }
    case MSR.kvmStealTime where hasStealTime:
      guard StolenTime<Context>.isPossible(value) else { throw .exception(.general) }
      context[modelSpecific: index] = value
      StolenTime(context: context).add(0)
    case let index where BranchRecord.contains(index):
      guard context.branchRecord.write(index, value) else { throw .exception(.general) }
    case let index where MSR.isMemoryTypeFixed(index):
      guard MemoryType.areFixedRanges(value) else { throw .exception(.general) }
      context[modelSpecific: index] = value
    default: try writeFamily(index, value)
    }
  }

  private var hasStealTime: Bool { MonitorSignature.announces(.stealTime, context.identification) }

  private func writeBase(_ index: UInt32, _ value: UInt64) throws(Interruption) {
    guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
    switch index {
    case MSR.fsBase: context.fsBase = value
    case MSR.gsBase: context.gsBase = value
    default: context.kernelGSBase = value
    }
  }

  /// LMA is the processor's; LME can't change while paging is on.
  private func write(efer new: EFER) throws(Interruption) {
    let old = context.efer
    var allowed: EFER = [.systemCallExtensions, .longModeEnable, .longModeActive, .noExecute]
    // Branches are translated: none of CPL 3 leads one of CPL 0 anywhere.
    if context.identification.has(.autoibrs) { allowed.insert(.automaticIBRS) }
    guard new.isSubset(of: allowed) else { throw .exception(.general) }
    if context.cr0.contains(.paging), new.symmetricDifference(old).contains(.longModeEnable) {
      throw .exception(.general)
    }
    context.set(efer: new.subtracting(.longModeActive).union(old.intersection(.longModeActive)))
  }

  // MARK: Memory types (AMD64 APM vol. 2, 7.7 and 7.8)

  /// All memory is write-back whatever they say.
  private func writeMemoryType(_ index: UInt32, _ value: UInt64) throws(Interruption) {
    let isPossible =
      if index == MSR.memoryTypeDefault {
        value & ~(0xff | MSR.memoryTypesEnabled | MSR.memoryTypesFixedEnabled) == 0
          && MemoryType.isPossible(value & 0xff)
      } else if index & 1 == 0 {
        // A base; 40 bits of physical address.
        value >> 40 == 0 && value & 0xf00 == 0 && MemoryType.isPossible(value & 0xff)
      } else {
        value >> 40 == 0 && value & 0x7ff == 0
      }
    guard isPossible else { throw .exception(.general) }
    context[modelSpecific: index] = value
  }

  // MARK: Registers of the family

  /// `nil` if the family has no such register.
  private func readFamily(_ index: UInt32) -> UInt64? {
    switch index {
    case FamilyRegister.machineCheckCapability:
      UInt64(FamilyRegister.bankCount) | FamilyRegister.hasMachineCheckControl
    case FamilyRegister.topOfMemory: context.memoryEnds.low
    case FamilyRegister.topOfHighMemory: context.memoryEnds.high
    case FamilyRegister.name: brand(index - FamilyRegister.name.lowerBound)
    default:
      switch FamilyRegister.behaviour(of: index) {
      case .fixed(let value)?: value
      case .kept(let value, _)?: context[modelSpecific: index] ?? value
      case nil: nil
      }
    }
  }

  /// Eight bytes of the name that CPUID shows.
  private func brand(_ position: UInt32) -> UInt64 {
    guard let leaf = context.identification.leaf(0x8000_0002 + position / 2) else { return 0 }
    return position & 1 == 0 ? UInt64(leaf.ebx) << 32 | UInt64(leaf.eax) : UInt64(leaf.edx) << 32 | UInt64(leaf.ecx)
  }

  private func writeFamily(_ index: UInt32, _ value: UInt64) throws(Interruption) {
    switch index {
    case FamilyRegister.microcodeLoader, FamilyRegister.topOfMemory, FamilyRegister.topOfHighMemory,
      FamilyRegister.name:
      break
    case let index where FamilyRegister.isBankStatus(index):
      // Software may only clear it (AMD64 APM vol. 2, 9.3.2.2), unless HWCR says otherwise.
      let configuration = readFamily(FamilyRegister.hardwareConfiguration) ?? 0
      guard value == 0 || configuration & FamilyRegister.writableBankStatus != 0 else { throw .exception(.general) }
      context[modelSpecific: index] = value
    default:
      switch FamilyRegister.behaviour(of: index) {
      case .fixed?: break
      case .kept(let initial, let writable)?:
        context[modelSpecific: index] = (context[modelSpecific: index] ?? initial) & ~writable | value & writable
      case nil: throw .exception(.general)
      }
    }
  }
}
