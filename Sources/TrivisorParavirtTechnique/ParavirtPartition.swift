import TrivisorSandbox
import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// One domain and its processors.
final class ParavirtPartition: Partition {
  private struct Contents {
    var domain: Domain?
    var cache: AddressSpaceCache?
    /// Where the domain's console goes, and what was typed before there was one.
    var console: DomainConsole
    /// What is on the domain's disks.
    var disks: [any BlockStorage] = []
  }

  private let memory: GuestMemory
  private let processorCount: Int
  private let doorbells: [Doorbell]
  private let state = Monitor(Contents(console: DomainConsole()))
  /// The first processor of the host that takes a virtual one; the others follow.
  private let firstHostProcessor = SandboxProcess.currentProcessor
  /// From when the partition was made.
  private let reference = TimeReference()

  init(memory: GuestMemory, processorCount: Int) {
    self.memory = memory
    self.processorCount = processorCount
    doorbells = (0..<processorCount).map { Doorbell($0) }
  }

  deinit { state.with { $0.cache }?.destroy() }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    ParavirtProcessor(number: index, partition: self, doorbell: doorbells[index])
  }

  /// A domain hears of devices by event channels.
  var interrupts: any InterruptController { NoInterrupts() }

  func connectConsole(_ sink: any SerialSink) -> (any ConsoleInput)? {
    state.with { contents in
      contents.console.sink = sink
      return contents.console
    }
  }

  func connectDisks(_ disks: [any BlockStorage]) { state.with { $0.disks = disks } }

  /// Not page tables and descriptors, which were checked.
  func mayBeWritten(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    contents?.domain.mayBeWritten(address, count: count) ?? true
  }

  var contents: (domain: Domain, cache: AddressSpaceCache)? {
    state.with { contents in
      guard let domain = contents.domain, let cache = contents.cache else { return nil }
      return (domain, cache)
    }
  }

  /// What the boot loader left becomes a domain, unless the image has spoilt what the domain builder made.
  func makeDomain(_ start: XenDomainStart) {
    let (console, disks) = state.with { ($0.console, $0.disks) }
    guard
      let domain = Domain(
        memory: memory, console: console.sink, doorbells: doorbells, disks: disks, start: start)
    else { return }
    adopt(domain, console)
  }

  private func adopt(_ domain: Domain, _ console: DomainConsole) {
    let cache = AddressSpaceCache(memory: memory, threadCount: processorCount, is32Bit: domain.layout == .bits32)
    domain.translations = cache
    console.connect(domain.console)
    state.with { contents in
      contents.domain = domain
      contents.cache = cache
    }
  }

  /// Virtual processors are spread over the host's, each with its guest thread on the same one.
  func hostProcessor(for number: Int) -> Int32 {
    SandboxProcess.hostProcessor(after: firstHostProcessor, number)
  }
}

extension ParavirtPartition: RestorablePartition {
  /// The domain; none where the image had spoilt it. Address spaces are made anew, and filled as guest code needs them.
  struct Saved: SavedState {
    static let version = 1
    var domain: DomainSaved?
  }

  var restorable: (any RestorablePartition)? { self }

  func save() -> Saved { Saved(domain: contents?.domain.save()) }

  func restore(_ saved: Saved) throws(RestoreFailure) {
    guard let domain = saved.domain else { return }
    let (console, disks) = state.with { ($0.console, $0.disks) }
    adopt(
      try Domain(
        domain, memory: memory, console: console.sink, doorbells: doorbells, disks: disks, reference: reference),
      console)
  }
}

/// Lines that lead nowhere.
private final class NoInterrupts: InterruptController {
  func setLine(_ line: Int, asserted: Bool) {}
  func deliver(_ message: InterruptMessage) {}
}
