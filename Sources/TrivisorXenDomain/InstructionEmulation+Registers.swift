import TrivisorCSharedWords
import TrivisorVMM
import TrivisorX86

/// Control registers and model-specific ones, as Xen shows them to a paravirtual kernel (arch/x86/pv/emul-priv-op.c,
/// arch/x86/pv/domain.c, arch/x86/msr.c).
extension InstructionEmulation {
  /// Protection, monitor, extension type, numeric error, write protection, alignment mask, paging: as any host has it.
  static let control0: UInt64 = 0x8005_0033
  private static let taskSwitched: UInt64 = 8

  /// Bits of CR4 that a kernel may change in its view of it, as far as its policy has the features.
  static let changeable4: CR4 = [.timeStampDisable, .debuggingExtensions, .fsgsbase, .osXSAVE]
  /// And those that it sees of the host's: physical address extension, and the two about vector instructions.
  static let visible4: CR4 = [.physicalAddressExtension, .osFXSR, .osXMMExceptions]

  /// The same of both, as a number.
  static var changeableControl4: UInt64 { changeable4.rawValue }
  /// EFER of 64 bits: system calls, long mode, no-execute.
  static let extendedFeatures: UInt64 = 0xd01

  func moveControlRegister(_ instruction: GuestInstruction) -> Bool {
    if instruction.opcode == 0x0f20 {
      let value: UInt64
      switch instruction.register {
      case 0: value = Self.control0 | (processor.isTaskSwitched ? Self.taskSwitched : 0)
      case 2: value = processor.faultAddress
      // A root's frame number of more than 20 bits goes on in the low ones.
      case 3:
        let root = processor.kernelRoot
        value = layout == .bits64 ? root << 12 : root << 12 & 0xffff_f000 | root >> 20
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
      processor.setTaskSwitched(value & Self.taskSwitched != 0)
    case 2:
      processor.faultAddress = value
      processor.storeFaultAddress(value)
    case 3:
      let root = layout == .bits64 ? value >> 12 : (value & 0xffff_ffff) >> 12 | (value & 0xfff) << 20
      guard (try? processor.setKernelRoot(root)) != nil else { return false }
    case 4:
      let possible = Self.changeable4.rawValue & processor.identification.control4
      // What natively run code can't have of it.
      let vain: CR4 =
        domain.abilities.contains(.timeStampDisable)
        ? .debuggingExtensions : [.timeStampDisable, .debuggingExtensions]
      if (processor.control4 ^ value) & possible & vain.rawValue != 0 { domain.counts.add(notHonoured: .control4) }
      processor.control4 = value & possible | Self.visible4.rawValue
    default: return false
    }
    return true
  }

  /// EFER: system calls, long mode, no-execute. Of 32 bits without long mode, and on Intel without SYSCALL.
  private var efer: UInt64 {
    if layout == .bits64 { return Self.extendedFeatures }
    return processor.identification.isIntel ? 0x800 : 0x801
  }

  /// Xen's own page attributes (XEN_MSR_PAT).
  private static let pageAttributes: UInt64 = 0x0000_0501_0007_0406
  /// Of the local APIC: where it would be, that it is on, and that this is the first processor.
  private static let apicBase: UInt64 = 0xfee0_0800
  private static let isFirstProcessor: UInt64 = 0x100
  /// Banks of machine checks that a domain sees.
  private static let bankCount: UInt32 = 2

  /// RDMSR and WRMSR. Whether Xen would do it; if not, it is the guest's general protection fault.
  func moveModelSpecificRegister(_ isWrite: Bool) -> Bool {
    let number = UInt32(truncatingIfNeeded: registers.rcx)
    if isWrite {
      return write(number, registers.rax & 0xffff_ffff | registers.rdx << 32)
    }
    guard let value = read(number) else { return false }
    registers.rax = value & 0xffff_ffff
    registers.rdx = value >> 32
    return true
  }

  private func write(_ number: UInt32, _ value: UInt64) -> Bool {
    switch number {
    case MSR.fsBase, MSR.gsBase, MSR.kernelGSBase:
      guard layout == .bits64, LinearAddress.isCanonical(value) else { return false }
      switch number {
      case MSR.fsBase: registers.fsBase = value
      case MSR.gsBase: registers.gsBase = value
      default: processor.otherGSBase = value
      }
      return true
    // Written back as it is.
    case MSR.efer: return value == efer
    case Number.hypercallPage: return domain.memory.writeHypercallPage(value)
    // What has no effect for a domain that doesn't own the processor.
    case Number.maximumPerformance, Number.actualPerformance: return true
    case Number.thermalControl, Number.energyBias: return processor.identification.isIntel
    case Number.miscellaneous: return processor.identification.isIntel
    case Number.microcode: return processor.identification.isIntel && value == 0
    case Number.northBridge: return true
    case Number.performanceStates, Number.powerStates, Number.hardwareConfiguration:
      return !processor.identification.isIntel
    case Number.machineCheckStatus, Number.machineCheckBanks, Number.machineCheckControl: return true
    default: return isCounter(number)
    }
  }

  private func read(_ number: UInt32) -> UInt64? {
    let isIntel = processor.identification.isIntel
    switch number {
    case MSR.fsBase where layout == .bits64: return registers.fsBase
    case MSR.gsBase where layout == .bits64: return registers.gsBase
    case MSR.kernelGSBase where layout == .bits64: return processor.otherGSBase
    case MSR.efer: return efer
    case Number.timeStamp: return host_timestamp()
    case Number.apicBase: return Self.apicBase | (processor.number == 0 ? Self.isFirstProcessor : 0)
    case Number.pageAttributes: return Self.pageAttributes
    case Number.miscellaneous: return isIntel ? Number.miscellaneousOfDomain : nil
    case Number.featureControl: return isIntel ? 1 : nil
    case Number.platformIdentifier, Number.thermalStatus, Number.performanceStatus, Number.performanceControl:
      return isIntel ? 0 : nil
    case Number.processorAuxiliary: return 0
    // There is nothing to be said of them: no CPUID faulting, no microcode that would be known, no capabilities.
    case Number.microcode, Number.platformInformation, Number.miscellaneousFeatures, Number.performanceCapabilities,
      Number.hypercallPage:
      return 0
    case Number.machineCheckOld, Number.machineCheckControl: return 0
    case Number.machineCheckCapabilities: return UInt64(Self.bankCount)
    case Number.machineCheckStatus: return 0
    case Number.machineCheckBanks:
      let place = number - Number.machineCheckBanks.lowerBound
      return place & 3 == 0 && place / 4 < Self.bankCount ? .max : 0
    case Number.performanceStates, Number.powerStates, Number.hardwareConfiguration: return isIntel ? nil : 0
    case Number.northBridge: return 0
    case Number.decoder: return isIntel ? nil : 1 << 1
    default: return isCounter(number) ? 0 : nil
    }
  }

  /// Performance counters, which are off: they read zero, and what is written is lost.
  private func isCounter(_ number: UInt32) -> Bool {
    let counters: [ClosedRange<UInt32>] =
      processor.identification.isIntel
      ? [0xc1...0xc8, 0x186...0x18d, 0x309...0x30b, 0x38d...0x390]
      : [0xc001_0200...0xc001_020b, 0xc001_0000...0xc001_0007]
    return counters.contains { $0.contains(number) }
  }

  /// Registers by their manuals' names (Intel SDM vol. 4; AMD's processor programming references).
  private enum Number {
    static let machineCheckOld: ClosedRange<UInt32> = 0...1
    static let timeStamp: UInt32 = 0x10
    static let platformIdentifier: UInt32 = 0x17
    static let apicBase: UInt32 = 0x1b
    static let featureControl: UInt32 = 0x3a
    static let microcode: UInt32 = 0x8b
    static let platformInformation: UInt32 = 0xce
    static let maximumPerformance: UInt32 = 0xe7
    static let actualPerformance: UInt32 = 0xe8
    static let miscellaneousFeatures: UInt32 = 0x140
    static let machineCheckCapabilities: UInt32 = 0x179
    static let machineCheckStatus: ClosedRange<UInt32> = 0x17a...0x17b
    static let performanceStatus: UInt32 = 0x198
    static let performanceControl: UInt32 = 0x199
    static let thermalControl: UInt32 = 0x19a
    static let thermalStatus: UInt32 = 0x19c
    static let miscellaneous: UInt32 = 0x1a0
    /// Fast strings; no branch trace, no precise sampling, no xTPR messages.
    static let miscellaneousOfDomain: UInt64 = 1 | 1 << 11 | 1 << 12 | 1 << 23
    static let energyBias: UInt32 = 0x1b0
    static let pageAttributes: UInt32 = 0x277
    static let machineCheckControl: ClosedRange<UInt32> = 0x280...0x29f
    static let performanceCapabilities: UInt32 = 0x345
    static let machineCheckBanks: ClosedRange<UInt32> = 0x400...0x47f
    static let hypercallPage: UInt32 = 0x4000_0000
    static let processorAuxiliary: UInt32 = 0xc000_0103
    static let hardwareConfiguration: UInt32 = 0xc001_0015
    static let northBridge: UInt32 = 0xc001_001f
    static let performanceStates: ClosedRange<UInt32> = 0xc001_0041...0xc001_0042
    static let powerStates: ClosedRange<UInt32> = 0xc001_0061...0xc001_006b
    static let decoder: UInt32 = 0xc001_1029
  }
}
