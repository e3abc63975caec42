import TrivisorBoot
import TrivisorSandbox
import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// One domain and its processors.
final class ParavirtPartition: Partition {
  private struct Contents {
    var domain: Domain?
    var place: DomainPlace?
    /// Where the domain's console goes, and what was typed before there was one.
    var console: DomainConsole
    /// The same of its second console, if it is to have one.
    var commandLine: DomainConsole?
    /// What is on the domain's disks.
    var disks: [any BlockStorage] = []
    /// Its network interfaces.
    var networks: [NetworkInterface] = []
  }

  private let memory: GuestMemory
  private let processorCount: Int
  private let model: ProcessorModel
  private let translatesAll: Bool
  private let doorbells: [Doorbell]
  private let state = Monitor(Contents(console: DomainConsole()))
  /// The first processor of the host that takes a virtual one; the others follow.
  private let firstHostProcessor = SandboxProcess.currentProcessor
  /// From when the partition was made.
  private let reference = TimeReference()

  init(memory: GuestMemory, processorCount: Int, model: ProcessorModel, translatesAll: Bool) {
    self.memory = memory
    self.processorCount = processorCount
    self.model = model
    self.translatesAll = translatesAll
    doorbells = (0..<processorCount).map { Doorbell($0) }
  }

  deinit {
    if case .processes(let cache)? = state.with({ $0.place }) { cache.destroy() }
  }

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

  /// The second console: hvc1 to Linux.
  func connectCommandLine(_ sink: any SerialSink) -> (any ConsoleInput)? {
    let console = DomainConsole()
    console.sink = sink
    state.with { $0.commandLine = console }
    return console
  }

  func connectDisks(_ disks: [any BlockStorage]) { state.with { $0.disks = disks } }
  func connectNetworks(_ networks: [NetworkInterface]) { state.with { $0.networks = networks } }

  /// Not page tables and descriptors, which were checked.
  func mayBeWritten(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    contents?.domain.mayBeWritten(address, count: count) ?? true
  }

  var contents: (domain: Domain, place: DomainPlace)? {
    state.with { contents in
      guard let domain = contents.domain, let place = contents.place else { return nil }
      return (domain, place)
    }
  }

  /// What the boot loader left becomes a domain, unless the image has spoilt what the domain builder made.
  /// - Throws: `TechniqueFailure` where this host, or this machine, can't run it.
  func makeDomain(_ start: XenDomainStart) throws(TechniqueFailure) {
    let (console, commandLine, disks, networks) = state.with {
      ($0.console, $0.commandLine, $0.disks, $0.networks)
    }
    let secondConsole = commandLine.map { line in SecondConsole(sink: line.sink) { line.connect($0) } }
    guard
      let domain = Domain(
        memory: memory, console: console.sink, doorbells: doorbells, disks: disks, networks: networks,
        secondConsole: secondConsole, start: start)
    else { return }
    try adopt(domain, console, isTranslated: start.isInUpperHalf || translatesAll && start.is64Bit)
  }

  private func adopt(_ domain: Domain, _ console: DomainConsole, isTranslated: Bool) throws(TechniqueFailure) {
    let place: DomainPlace
    if isTranslated {
      guard processorCount <= TranslatedSpace.processorLimit else {
        throw TechniqueFailure(
          call: "making a domain of \(processorCount) processors",
          reason:
            "its kernel is linked for the upper half of the address space, so its code is translated, which is done"
            + " for at most \(TranslatedSpace.processorLimit) processors",
          remedy: "ask for fewer (\(Setting.processors))")
      }
      let space = try TranslatedSpace(memory, model, processorCount: processorCount)
      space.adopt(domain)
      domain.translations = space
      place = .engine(space)
    } else {
      let is32Bit = domain.layout == .bits32
      let cache = AddressSpaceCache(
        memory: memory, threadCount: processorCount, is32Bit: is32Bit, window: is32Bit ? nil : Self.window(domain))
      domain.translations = cache
      place = .processes(cache)
    }
    console.connect(domain.console)
    state.with { contents in
      contents.domain = domain
      contents.place = place
    }
  }

  /// The machine-to-physical table of 64-bit domains, whose address no process can have.
  private static func window(_ domain: Domain) -> UpperWindow {
    let (addresses, frame) = domain.machineTable
    let size = (UInt64(addresses.count) + GuestMemory.pageSize - 1) & ~(GuestMemory.pageSize - 1)
    return UpperWindow(
      address: addresses.lowerBound, size: size,
      fileOffset: (frame - XenMachine.firstFrame) * GuestMemory.pageSize)
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
    /// Whether its code was translated.
    var isTranslated: Bool?
  }

  var restorable: (any RestorablePartition)? { self }

  func save() -> Saved {
    var isTranslated = false
    if case .engine? = contents?.place { isTranslated = true }
    return Saved(domain: contents?.domain.save(), isTranslated: isTranslated)
  }

  func restore(_ saved: Saved) throws(RestoreFailure) {
    guard let domain = saved.domain else { return }
    let (console, disks, networks) = state.with { ($0.console, $0.disks, $0.networks) }
    let restored = try Domain(
      domain, memory: memory, console: console.sink, doorbells: doorbells, disks: disks, networks: networks,
      reference: reference)
    do throws(TechniqueFailure) {
      try adopt(restored, console, isTranslated: saved.isTranslated ?? false)
    } catch { throw RestoreFailure("domain's processors", error.reason) }
  }
}

/// Where the code of a domain runs.
enum DomainPlace {
  /// Natively, in sandboxed processes.
  case processes(AddressSpaceCache)
  /// Translated, in this process.
  case engine(TranslatedSpace)
}

/// Lines that lead nowhere.
private final class NoInterrupts: InterruptController {
  func setLine(_ line: Int, asserted: Bool) {}
  func deliver(_ message: InterruptMessage) {}
}
