import TrivisorVMM

/// What a case asks for that a Xen domain does not have. Such a case is refused by this name, and counted.
public enum DomainRefusal: String, Sendable, CaseIterable {
  /// It runs at CPL 0, outside of long mode, or in 32-bit code: a domain begins in 64-bit code, and all of it is at CPL 3.
  case mode
  /// It has processors that wait for start-up messages.
  case processors
  /// It makes its own descriptor tables, gates, page tables or registers, which are the hypervisor's.
  case tables
  /// It looks at a processor's state, or at tables that a processor has written to.
  case state
  /// It meets devices: ports, device memory, interrupt lines.
  case devices
  /// It ends otherwise than by its own decision.
  case ending
  /// It needs what user code can't have, or the hypervisor does otherwise: `Ability` says what.
  case ability
  /// Its code lies below 64 KiB, where this host gives memory to nobody but root (vm.mmap_min_addr).
  case lowAddresses
}

extension ConformanceCase {
  /// Why it can't run in a domain; `nil` for one that can. What only shows while it runs (an event that it asks for) is not
  /// in it.
  var domainRefusal: DomainRefusal? {
    if mode != .longUser { return .mode }
    if processorCount > 1 { return .processors }
    if isPrepared || companion != nil { return .tables }
    if isChecked || interlude != nil || Self.readsTables.contains(name) { return .state }
    if journal != nil { return .devices }
    let expected: Ending = ending
    guard case .stopped(.exited) = expected else { return .ending }
    let asksHost = Self.readsHost.contains(name) || Self.asksKVM.contains(name)
    if asksHost || !needs.isDisjoint(with: Ability.missingInDomains) { return .ability }
    return nil
  }

  /// Their guests look into page tables where a machine has them.
  private static let readsTables: Set = ["paging-accessed-user"]
  /// What SGDT and its like tell user code is the host's, unless it has UMIP.
  private static let readsHost: Set = ["sensitive-readings"]
  /// KVM's signature and hypercalls are a machine's. Natively the host's own hypervisor answers, if there is one.
  private static let asksKVM: Set = ["cpuid-hypervisor-user", "promises-hypercalls-user"]
}

extension Ability {
  /// Of user code in a Xen domain: it runs natively, under the host's own CPUID, control registers and descriptor tables, and
  /// its kernel is no kernel to the processor. Where INT1 leaves RIP is the host's affair, too.
  static let missingInDomains: Set<Ability> = [
    .ioPrivilegeLevel, .userSoftwareInterrupts, .userCallGates, .userSegments, .exactCPUID, .floatingPointControl,
    .userExtendedControl, .segmentBaseControl, .userBreakpoints, .systemCalls, .timeStampControl, .debugInstruction,
  ]
}
