// What a technique may lack on a host, and where that is decided.
//
// A case that needs an ability which is missing is skipped with the ability as the reason: a word that a script can
// read. The list is short on purpose: an ability is added when the *host* is known not to do what the manual says, never to
// excuse a technique of ours. How many cases each missing ability costs is itself checked.

import ConformanceGuests
import VMM

/// Something that a case needs and that a technique may not be able to give on every host.
public enum Ability: String, Sendable, CaseIterable, Comparable {
  /// IN and OUT at CPL 3 are allowed by RFLAGS.IOPL (AMD64 APM vol. 2, 6.2.1).
  case ioPrivilegeLevel

  /// By declaration.
  public static func < (lhs: Self, rhs: Self) -> Bool {
    (allCases.firstIndex(of: lhs) ?? 0) < (allCases.firstIndex(of: rhs) ?? 0)
  }
}

/// Which kind of host a technique runs on, as far as it decides about abilities.
public enum HostKind: String, Sendable, CaseIterable {
  /// Guest kernel code runs on a processor, or in software of ours: nothing is missing.
  case complete
  /// A KVM that emulates guest kernel code instruction by instruction (KVM-PVM).
  case emulatingKVM = "emulating-kvm"
  /// A KVM on a processor that is itself simulated by QEMU's TCG.
  case simulatedProcessor = "simulated-processor"

  /// What kind of host this is for a technique; measures, so it takes milliseconds.
  public init(for technique: any Technique) {
    self =
      switch technique.name {
      case .hardware where technique.caution() != nil: .emulatingKVM
      case .hardware where String(cString: conformance_host_hypervisor()) == "TCGTCGTCGTCG": .simulatedProcessor
      default: .complete
      }
  }

  /// What is missing on such a host.
  public var lacking: Set<Ability> {
    switch self {
    case .complete: []
    case .emulatingKVM: [.ioPrivilegeLevel]
    case .simulatedProcessor: []
    }
  }
}

extension HostKind {
  /// How many cases are skipped here: written down, so that a skip more or less does not go unnoticed.
  public var expectedSkips: Int {
    switch self {
    case .complete: 0
    case .emulatingKVM: 0
    case .simulatedProcessor: 0
    }
  }
}
