import TrivisorTranslation
import TrivisorVMM
import TrivisorXenDomain

/// What is around a translated processor of a domain: nothing that it could reach itself. Its kernel asks the hypervisor, but for
/// stores into last-level page tables, which the hypervisor checks and makes whatever the instruction (Xen's "writable page
/// tables").
final class DomainSurroundings: ProcessorSurroundings {
  let takesSystemCalls = true
  let waiting = WaitingEvents(rawValue: 0)
  /// Whose processor it is, as soon as there is one.
  weak var domain: Domain?
  private let number: Int
  /// Whether the kernel runs.
  var isKernel = true
  /// Where a store was to go that the hypervisor has refused.
  private var refusedStore: UInt64?
  private var store: UInt64 = 0

  /// - Parameter number: the processor's.
  init(_ number: Int) { self.number = number }

  var descriptorKeeper: (any DescriptorKeeper)? { self }

  func takesStore(to physical: UInt64, linear: UInt64) -> Bool {
    guard isKernel, let domain, domain.takesTableStore(at: physical) else { return false }
    store = linear
    return true
  }

  /// The linear address of a store that was refused since it was asked last.
  func takeRefusedStore() -> UInt64? {
    defer { refusedStore = nil }
    return refusedStore
  }

  // MARK: Buses

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 { width.allOnes }
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? { nil }

  func readMemory(_ physical: UInt64, width: AccessWidth) -> UInt64 {
    guard let domain, physical & InterceptedStore.mark != 0 else { return width.allOnes }
    return domain.readTable(at: physical & ~InterceptedStore.mark) & width.allOnes
  }

  func writeMemory(_ physical: UInt64, _ value: UInt64, width: AccessWidth) -> StopReason? {
    guard let domain, physical & InterceptedStore.mark != 0 else { return nil }
    guard domain.storeInTable(value, size: width.rawValue, at: physical & ~InterceptedStore.mark) else {
      refusedStore = store
      return .stopRequested
    }
    return nil
  }

  // MARK: The local APIC

  let hasLocalAPIC = false
  let localBase: UInt64 = 0
  func setLocalBase(_ value: UInt64) -> Bool { false }
  func restoreLocalBase(_ value: UInt64) {}
  let localPage: UInt64? = nil
  func readLocalPage(_ offset: UInt64, width: AccessWidth) -> UInt64 { width.allOnes }
  func writeLocalPage(_ value: UInt64, _ offset: UInt64, width: AccessWidth) {}
  func readLocal(_ index: UInt32) -> UInt64? { nil }
  func writeLocal(_ index: UInt32, _ value: UInt64) -> Bool { false }
  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int? { nil }
  func signalFloatingPointError() {}
  var taskPriority: UInt8 = 0
  func restoreTaskPriority(_ value: UInt8) {}

  // MARK: Time

  func timestampOffsetChanged(to offset: UInt64) {}
  let systemTime: UInt64 = 0
  let clockPair: (timestamp: UInt64, systemTime: UInt64) = (0, 0)
  var timestampFrequency: UInt64 { HostTimestamp.estimatedFrequency }
}

extension DomainSurroundings: DescriptorKeeper {
  func descriptor(_ selector: UInt16) -> UInt64? { domain?.descriptor(selector, ofProcessor: number) }

  func noteAccessed(_ selector: UInt16) { domain?.noteAccessedDescriptor(selector, ofProcessor: number) }
}
