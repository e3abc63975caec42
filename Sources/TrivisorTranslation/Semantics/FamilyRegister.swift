import TrivisorVMM

/// Model-specific registers that a processor of AMD's family 17h has without a CPUID bit that says so: kernels, firmware and
/// memory testers read them, and set bits of them, because they know the family.
///
/// Sources: AMD64 APM vol. 2, appendix A; Processor Programming Reference for family 17h models 00h–0Fh, 2.1.14.
enum FamilyRegister {
  /// What a register is like to the guest.
  enum Behaviour: Equatable {
    /// Reads as this, whatever is written.
    case fixed(UInt64)
    /// Begins with the first value; of it these bits can be changed.
    case kept(UInt64, writable: UInt64)
  }

  /// SYSCFG, the I/O range registers, TOP_MEM and TOP_MEM2, the north bridge's configuration.
  static let systemConfiguration: UInt32 = 0xc001_0010, ioRanges: ClosedRange<UInt32> = 0xc001_0016...0xc001_0019
  static let topOfMemory: UInt32 = 0xc001_001a, topOfHighMemory: UInt32 = 0xc001_001d
  static let northBridgeConfiguration: UInt32 = 0xc001_001f
  /// PATCH_LOADER: takes the address of a microcode update; can't be read.
  static let microcodeLoader: UInt32 = 0xc001_0020
  static let hardwareConfiguration: UInt32 = 0xc001_0015
  /// PerfEvtSel0 to 3, PerfCtr0 to 3.
  static let performanceCounters: ClosedRange<UInt32> = 0xc001_0000...0xc001_0007
  /// The processor's name in six registers, as CPUID gives it.
  static let name: ClosedRange<UInt32> = 0xc001_0030...0xc001_0035
  /// Which errors a bank does not report.
  static let machineCheckMasks: UInt32 = 0xc001_0044
  /// SMI on I/O, the pending interrupt message, MMIO_CFG_BASE.
  static let ioTraps: ClosedRange<UInt32> = 0xc001_0050...0xc001_0056, mappedConfiguration: UInt32 = 0xc001_0058
  /// The built-in self test's result; the current limit, the control and the state of performance states, and eight of them.
  static let selfTest: UInt32 = 0xc001_0060, performanceStates: ClosedRange<UInt32> = 0xc001_0061...0xc001_006b
  static let managementBase: UInt32 = 0xc001_0111, managementArea: ClosedRange<UInt32> = 0xc001_0112...0xc001_0113
  /// VM_CR, and where VMRUN saves the host.
  static let virtualMachineControl: UInt32 = 0xc001_0114, virtualMachineSaveArea: UInt32 = 0xc001_0117
  /// IC_CFG, DC_CFG, TW_CFG; FP_CFG, DE_CFG, L2_CFG and what follows. LS_CFG is not there, as under KVM: by its bit 10 kernels stop
  /// loads from passing stores (SSBD), which the host's processor would not heed, and its absence tells them so.
  static let unitConfigurations: [ClosedRange<UInt32>] = [0xc001_1021...0xc001_1023, 0xc001_1028...0xc001_102d]
  static let decoderConfiguration: UInt32 = 0xc001_1029

  /// In MCG_CAP: MCG_CTL exists (MCG_CTL_P).
  static let hasMachineCheckControl: UInt64 = 1 << 8
  static let bankCount: UInt32 = 10
  static let machineCheckCapability: UInt32 = 0x179, machineCheckStatus: UInt32 = 0x17a
  static let machineCheckControl: UInt32 = 0x17b
  /// CTL, STATUS, ADDR and MISC of each bank in turn.
  static let banks: Range<UInt32> = 0x400..<0x400 + 4 * bankCount
  /// In HWCR: a bank's status may be set to something (McStatusWrEn).
  static let writableBankStatus: UInt64 = 1 << 18

  static func isBankStatus(_ index: UInt32) -> Bool { banks.contains(index) && index & 3 == 1 }

  /// `nil` if there is no such register.
  static func behaviour(of index: UInt32) -> Behaviour? {
    switch index {
    // Counters that never count: what is written to them is lost, from which a kernel sees that they are of no use.
    case performanceCounters: .fixed(0)
    // The time stamp counts at the frequency of P0 (TscFreqSel).
    case hardwareConfiguration: .kept(1 << 24, writable: writableBankStatus)
    // LFENCE waits for the instructions before it.
    case decoderConfiguration: .kept(2, writable: .max)
    case systemConfiguration, ioRanges, northBridgeConfiguration, ioTraps, mappedConfiguration, selfTest,
      performanceStates, managementArea, virtualMachineSaveArea:
      .fixed(0)
    case managementBase: .fixed(0x3_0000)
    // SVMDIS and LOCK.
    case virtualMachineControl: .fixed(0x18)
    case let index where unitConfigurations.contains(where: { $0.contains(index) }): .fixed(0)
    case machineCheckMasks..<machineCheckMasks + bankCount: .kept(0, writable: .max)
    case machineCheckStatus: .kept(0, writable: 7)
    case machineCheckControl: .kept(0, writable: .max)
    case banks: .kept(0, writable: .max)
    default: nil
    }
  }
}
