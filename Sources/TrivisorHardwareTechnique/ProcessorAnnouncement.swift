// What CPUID says under KVM: the model that was asked for, as far as this host's KVM can give it.

import TrivisorVMM

/// A processor model measured against this host.
struct ProcessorAnnouncement: Sendable {
  private let model: ProcessorModel
  private let supported: CPUIDTable
  /// Features of the model that this host's KVM does not offer, in CPUID's order.
  let missing: [ProcessorFeature]

  /// - Parameters:
  ///   - supported: what KVM_GET_SUPPORTED_CPUID gave.
  ///   - hasKernelChips: the local APIC is KVM's. Only then are its MSRs, which KVM does not hand out.
  init(_ model: ProcessorModel, supported: CPUIDTable, hasDeadlineTimer: Bool, hasKernelChips: Bool) {
    let withChips: Set<ProcessorFeature> = [.x2apic, .tsc_deadline_timer]
    self.model = model
    var supported = supported
    if !hasKernelChips {
      for position in supported.leaves.indices where supported.leaves[position].function == 1 {
        supported.leaves[position].ecx &= ~(1 << 21 | 1 << 24)
      }
    }
    self.supported = supported
    let offered = supported
    missing = model.features.filter { feature in
      if !hasKernelChips, withChips.contains(feature) { return true }
      // Older KVMs have the timer as a capability only.
      if feature == .tsc_deadline_timer, hasDeadlineTimer { return false }
      // The guest is under a hypervisor whatever KVM says.
      return feature != .hypervisor && !offered.has(feature)
    }.sorted()
  }

  /// The guest's kernel runs on the host's processor, and must take the care that that one needs.
  private var family: ProcessorFamily {
    let isAMD = supported.leaf(0)?.ecx == Self.vendorOfAMD
    return isAMD && Self.familyNumber(supported.leaf(1)?.eax ?? 0) == 0x1a ? .family1A : .family17
  }

  /// "cAMD".
  private static let vendorOfAMD: UInt32 = 0x444d_4163

  /// The base family and the extended one (AMD64 APM vol. 3, E.3.2).
  private static func familyNumber(_ signature: UInt32) -> UInt32 { signature >> 8 & 15 + signature >> 20 & 0xff }

  /// What goes with the model. PKRU's place in XSAVE's area is the processor's to say.
  private var companions: Set<ProcessorFeature> {
    let hasXSAVE = !missing.contains(.xsave)
    let hasPlace = supported.leaf(0xd, index: Self.protectionKeysComponent) != nil
    return model.companions.filter { supported.has($0) && ($0 != .pku || hasXSAVE && hasPlace) }
  }

  /// Of XSAVE's state: PKRU.
  private static let protectionKeysComponent: UInt32 = 9

  /// The table for one processor.
  func table(processor: Int, of count: Int) -> CPUIDTable {
    var table =
      model.isHost
      ? hostTable(processor: processor, of: count)
      : CPUIDTable(
        features: model.features.subtracting(missing).union(companions),
        processor: processor, of: count, name: model.name, family: family,
        protectionKeysOffset: supported.leaf(0xd, index: Self.protectionKeysComponent)?.ebx ?? 0)
    table.leaves.removeAll { 0x4000_0000...0x4fff_ffff ~= $0.function }
    // KVM's own leaves (Documentation/virt/kvm/x86/cpuid.rst): the clock and nothing else, since that is what every
    // technique can give. Bits: CLOCKSOURCE 0, CLOCKSOURCE2 3, CLOCKSOURCE_STABLE 24.
    let offered = supported.leaf(0x4000_0001)?.eax ?? 0
    table.leaves.append(
      CPUIDLeaf(0x4000_0000, eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d))
    table.leaves.append(CPUIDLeaf(0x4000_0001, eax: offered & 0x0100_0009))
    return table
  }

  /// The host's answers with this machine's topology.
  private func hostTable(processor: Int, of count: Int) -> CPUIDTable {
    let topology = CPUIDTable(features: [], processor: processor, of: count, name: model.name)
    var table = supported
    table.leaves.removeAll { [0xb, 0x1f, 0x8000_001e].contains($0.function) }
    table.leaves += topology.leaves.filter { $0.function == 0xb }
    for position in table.leaves.indices {
      switch table.leaves[position].function {
      case 1:
        // KVM gives the cache line size in bits 8-15; the APIC ID and count are ours.
        let ours = topology.leaf(1)?.ebx ?? 0
        table.leaves[position].ebx = table.leaves[position].ebx & 0xffff | ours & 0xffff_0000
        table.leaves[position].edx |= count > 1 ? 1 << 28 : 0
        table.leaves[position].ecx |= 1 << 31
      case 0x8000_0008:
        table.leaves[position].ecx = topology.leaf(0x8000_0008)?.ecx ?? 0
      default: break
      }
    }
    return table
  }
}
