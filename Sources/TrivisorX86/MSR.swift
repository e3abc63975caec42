/// Numbers of model-specific registers (AMD64 APM vol. 2, appendix A; Intel SDM vol. 4, chapter 2).
public enum MSR {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let timeStampCounter: UInt32 = 0x10, timeStampAdjust: UInt32 = 0x3b
  /// APIC_BASE.
  public static let apicBase: UInt32 = 0x1b
  /// In APIC_BASE: this processor is the one that begins (BSC).
  public static let isBootstrapProcessor: UInt64 = 1 << 8
  /// BIOS_SIGN_ID, AMD's PATCH_LEVEL.
  public static let microcodeRevision: UInt32 = 0x8b
  /// AMD's PATCH_LOADER.
  public static let microcodeUpdate: UInt32 = 0xc001_0020
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let systemEnterCS: UInt32 = 0x174, systemEnterESP: UInt32 = 0x175, systemEnterEIP: UInt32 = 0x176
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let machineCheckCapability: UInt32 = 0x179, machineCheckStatus: UInt32 = 0x17a
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let machineCheckControl: UInt32 = 0x17b
  /// MC0_CTL; four registers a bank: CTL, STATUS, ADDR, MISC.
  public static let firstMachineCheckBank: UInt32 = 0x400
  /// Intel's.
  public static let miscellaneousEnable: UInt32 = 0x1a0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let debugControl: UInt32 = 0x1d9
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let lastBranchFrom: UInt32 = 0x1db, lastBranchTo: UInt32 = 0x1dc
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let lastExceptionFrom: UInt32 = 0x1dd, lastExceptionTo: UInt32 = 0x1de
  /// MTRRcap.
  public static let memoryTypeCapability: UInt32 = 0xfe
  /// Base and mask of eight variable ranges in turn.
  public static let memoryTypeVariableRanges: ClosedRange<UInt32> = 0x200...0x20f
  /// One register of 64 KiB ranges, two of 16 KiB, eight of 4 KiB.
  public static let memoryTypeFixed64K: UInt32 = 0x250, memoryTypeFixed16K: ClosedRange<UInt32> = 0x258...0x259
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let memoryTypeFixed4K: ClosedRange<UInt32> = 0x268...0x26f
  /// PAT.
  public static let pageAttributeTable: UInt32 = 0x277
  /// PAT after RESET: write-back, write-through, UC-, uncacheable, twice.
  public static let pageAttributeTableReset: UInt64 = 0x0007_0406_0007_0406
  /// One of the eleven fixed ranges.
  public static func isMemoryTypeFixed(_ index: UInt32) -> Bool {
    index == memoryTypeFixed64K || memoryTypeFixed16K.contains(index) || memoryTypeFixed4K.contains(index)
  }
  /// MTRRdefType.
  public static let memoryTypeDefault: UInt32 = 0x2ff
  /// In MTRRdefType: whether the memory type ranges count at all.
  public static let memoryTypesEnabled: UInt64 = 1 << 11
  /// In MTRRdefType: the fixed ranges count.
  public static let memoryTypesFixedEnabled: UInt64 = 1 << 10
  /// In MTRRdefType and the ranges: write-back.
  public static let memoryTypeWriteBack: UInt64 = 6
  /// TSC_DEADLINE.
  public static let timeStampDeadline: UInt32 = 0x6e0
  /// The local APIC's registers in x2APIC mode.
  public static let x2APIC: ClosedRange<UInt32> = 0x800...0x8ff
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let efer: UInt32 = 0xc000_0080, star: UInt32 = 0xc000_0081, lstar: UInt32 = 0xc000_0082
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let cstar: UInt32 = 0xc000_0083, systemCallFlagMask: UInt32 = 0xc000_0084
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let fsBase: UInt32 = 0xc000_0100, gsBase: UInt32 = 0xc000_0101, kernelGSBase: UInt32 = 0xc000_0102
  /// TSC_AUX.
  public static let timeStampAuxiliary: UInt32 = 0xc000_0103
  /// PerfEvtSel0 to 3 and PerfCtr0 to 3 of the K7 and later.
  public static let performanceEventSelects: ClosedRange<UInt32> = 0xc001_0000...0xc001_0003
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let performanceCounters: ClosedRange<UInt32> = 0xc001_0004...0xc001_0007
  /// SYSCFG.
  public static let systemConfiguration: UInt32 = 0xc001_0010
  /// HWCR.
  public static let hardwareConfiguration: UInt32 = 0xc001_0015

  /// KVM's clock: where the wall clock goes, and the system time; the newer numbers (Linux, Documentation/virt/kvm/x86/msr.rst).
  public static let kvmWallClock: UInt32 = 0x4b56_4d00, kvmSystemTime: UInt32 = 0x4b56_4d01
  /// Where KVM says for how long the processor was kept from running, and whether it sleeps.
  public static let kvmStealTime: UInt32 = 0x4b56_4d03
}
