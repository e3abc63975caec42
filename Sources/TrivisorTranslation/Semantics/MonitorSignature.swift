import TrivisorVMM

/// How CPUID shows what the guest runs on: as KVM, with the parts of its interface that are there.
///
/// Source: Linux, Documentation/virt/kvm/x86/cpuid.rst.
package enum MonitorSignature {
  /// CPUID leaf with the name.
  static let signatureLeaf: UInt32 = 0x4000_0000
  /// CPUID leaf with the features.
  private static let featureLeaf: UInt32 = 0x4000_0001

  /// KVM_FEATURE_…
  struct Features: OptionSet {
    let rawValue: UInt32

    /// The clock's newer registers.
    static let clock = Features(rawValue: 1 << 3)
    /// `StolenTime`.
    static let stealTime = Features(rawValue: 1 << 5)
    /// A processor that waits for a lock halts, and whoever has freed it calls for it (`Hypercall.kickProcessor`).
    static let unhalt = Features(rawValue: 1 << 7)
    /// A processor that sleeps forgets its translations when it wakes up, if it is told so meanwhile.
    static let flushesWhenAwake = Features(rawValue: 1 << 9)
    /// `Hypercall.sendInterrupts`.
    static let sendInterrupts = Features(rawValue: 1 << 11)
    /// One time base for all processors.
    static let stableClock = Features(rawValue: 1 << 24)
  }

  /// The leaves for one of so many processors. A single one has nobody to wait for.
  package static func leaves(processorCount: Int) -> [CPUIDLeaf] {
    var features: Features = [.clock, .stableClock]
    if processorCount > 1 { features.formUnion([.stealTime, .unhalt, .flushesWhenAwake, .sendInterrupts]) }
    return [
      CPUIDLeaf(signatureLeaf, eax: featureLeaf, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d),
      CPUIDLeaf(featureLeaf, eax: features.rawValue),
    ]
  }

  /// Whether a processor with these answers has a part of the interface.
  static func announces(_ feature: Features, _ table: CPUIDTable) -> Bool {
    Features(rawValue: table.leaf(featureLeaf)?.eax ?? 0).contains(feature)
  }
}
