// The rewriting technique: guest code is translated, block by block, into code for the same processor that this process
// can run, without any help of the host's kernel.
//
//     TrivisorTranslation   the engine: translator, code cache, page tables, what Swift carries out
//     RewritingProcessor    the loop around it: interrupts, HLT, exceptions delivered
//     PCSurroundings        buses, chips and clock as the engine meets them
//     RewritingPartition    the machine
//
// docs/rewriting.md explains how they work together.

import TrivisorCWorldSwitch
import TrivisorDevices
import Glibc
import Synchronization
import TrivisorTranslation
import TrivisorVMM

/// Runs guests by translating their code.
public struct RewritingTechnique: Technique {
  private let trace: CodeTrace?
  private let host: HostProcessor
  private let schedule: (any ProcessorSchedule)?

  /// - Parameters:
  ///   - trace: where to write what the guest's code does.
  ///   - host: what can be executed; another one only in tests.
  public init(trace: CodeTrace? = nil, host: HostProcessor = .current) {
    self.trace = trace
    self.host = host
    schedule = nil
  }

  /// - Parameter schedule: which of several processors goes on.
  package init(schedule: any ProcessorSchedule) {
    trace = nil
    host = .current
    self.schedule = schedule
  }

  /// Always `rewriting`.
  public var name: TechniqueName { .rewriting }

  /// What the engine needs of the host is a matter of its processor only.
  public func probe() -> Availability {
    let lacking = NativeFeatures.lackingForEngine(of: host)
    guard lacking.isEmpty else {
      return .unavailable(
        reason: Self.sentence(lacking), remedy: "use a host of the x86-64-v3 level or another technique")
    }
    return .available(notes: ["x86-to-x86 translation in user space"])
  }

  private static func sentence(_ lacking: [ProcessorFeature]) -> String {
    "the engine needs \(lacking.map(\.rawValue).joined(separator: ", ")), which the host's processor lacks"
  }

  /// Stock kernels run, faster than on a host whose KVM emulates them.
  public func caution() -> String? { nil }

  /// Processor features of a named model that the engine does not give; too many processors.
  public func findings(for configuration: MachineConfiguration) -> [Finding] {
    var findings: [Finding] = []
    if configuration.processorCount > ProcessorRendezvous.processorLimit {
      findings.append(
        Finding(
          .processors,
          """
          the rewriting technique runs at most \(ProcessorRendezvous.processorLimit) processors, not \
          \(configuration.processorCount): ask for fewer, or change \(Setting.technique)
          """))
    }
    if configuration.interruptChips == .kernel {
      findings.append(
        Finding(.interruptChips, "the rewriting technique has them in software: leave that out"))
    }
    let missing = reductions(for: configuration)
    if configuration.processorModel.isRequired, !missing.isEmpty {
      findings.append(
        Finding(
          .processorModel,
          """
          the rewriting technique does not give \(missing.map(\.rawValue).joined(separator: ", ")) of \
          \(configuration.processorModel.name) on this host: ask for a lesser model, or leave \
          \(Setting.processorModel) out to take what is there
          """))
    }
    return findings
  }

  /// Features of the model that guests will not see, in CPUID's order. None of `host`: that model is what there is.
  public func reductions(for configuration: MachineConfiguration) -> [ProcessorFeature] {
    let model = configuration.processorModel
    return model.isHost ? [] : model.features.subtracting(announced(model)).sorted()
  }

  private func announced(_ model: ProcessorModel) -> Set<ProcessorFeature> {
    NativeFeatures.announced(model, on: host)
  }

  /// Chips and clock.
  public var savedPartition: (any SavedState.Type)? { RewritingPartition.Saved.self }

  /// - Throws: `TechniqueFailure` naming the host call.
  public func makePartition(
    _ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus
  ) throws(TechniqueFailure) -> any Partition {
    let lacking = NativeFeatures.lackingForEngine(of: host)
    guard lacking.isEmpty else {
      throw TechniqueFailure(call: "CPUID", reason: Self.sentence(lacking), remedy: "use another technique")
    }
    let error = cws_install_handlers()
    guard error == 0 else {
      throw TechniqueFailure(call: "sigaction", reason: String(cString: strerror(error)))
    }
    // A child that an embedder forks must not get the guest's memory, nor make each of its pages copied on the next write.
    for region in memory.regions { madvise(region.host, Int(region.size), MADV_DONTFORK) }
    let features = announced(configuration.processorModel)
    let identifications = (0..<configuration.processorCount).map { index in
      var table = CPUIDTable(
        features: features, processor: index, of: configuration.processorCount, name: configuration.processorModel.name)
      table.leaves += MonitorSignature.leaves(processorCount: configuration.processorCount)
      return table
    }
    return try RewritingPartition(
      memory: memory, bus: bus, identifications: identifications, trace: trace, schedule: schedule)
  }
}

/// A machine under the rewriting technique.
final class RewritingPartition: Partition {
  let memory: GuestMemory
  let bus: Bus
  /// What CPUID says, by processor.
  let identifications: [CPUIDTable]

  let trace: CodeTrace?
  let translations: TranslationCache
  /// Where there are several processors.
  private let rendezvous: ProcessorRendezvous?
  let clock: any ChipsetClock
  let chipset: Chipset
  /// When the clock in guest memory was zero.
  var startTime: UInt64 {
    get { startNanoseconds.load(ordering: .relaxed) }
    set {
      startNanoseconds.store(newValue, ordering: .relaxed)
      pair.withLock { $0 = Self.pair(clock, since: newValue) }
    }
  }
  private let startNanoseconds: Atomic<UInt64>
  /// The host's time stamp counter and the clock's time at one moment: as long as the machine is, the same.
  var clockPair: (timestamp: UInt64, systemTime: UInt64) { pair.withLock { $0 } }
  private let pair: Mutex<(timestamp: UInt64, systemTime: UInt64)>

  /// - Parameters:
  ///   - identifications: one for each processor.
  ///   - schedule: which of several processors goes on, in tests.
  init(
    memory: GuestMemory, bus: Bus, identifications: [CPUIDTable], trace: CodeTrace?,
    schedule: (any ProcessorSchedule)? = nil
  ) throws(TechniqueFailure) {
    let count = identifications.count
    guard let first = identifications.first, count <= ProcessorRendezvous.processorLimit else {
      throw TechniqueFailure(
        call: "making \(count) processors",
        reason: "the rewriting technique runs 1 to \(ProcessorRendezvous.processorLimit)",
        remedy: "set \(Setting.processors)")
    }
    self.memory = memory
    self.identifications = identifications
    rendezvous = count > 1 ? ProcessorRendezvous(processorCount: count, schedule: schedule) : nil
    self.trace = trace
    translations = try TranslationCache(
      announced: AnnouncedFeatures(first), memory: PhysicalMemory(memory), isShared: count > 1, trace: trace)
    clock = HostChipsetClock()
    let now = clock.nanoseconds
    startNanoseconds = Atomic(now)
    pair = Mutex(Self.pair(clock, since: now))
    chipset = Chipset(processorCount: count, clock: clock)
    do throws(BusConflict) {
      self.bus = try bus.adding(ports: chipset.portClaims, memory: chipset.memoryClaims)
    } catch {
      throw TechniqueFailure(call: "machine assembly", reason: error.description)
    }
  }

  /// The closest of a few readings, since the thread may be interrupted between the two.
  private static func pair(_ clock: any ChipsetClock, since start: UInt64) -> (timestamp: UInt64, systemTime: UInt64) {
    var best = (timestamp: UInt64(0), systemTime: UInt64(0))
    var least = UInt64.max
    for _ in 0..<5 {
      let before = cws_timestamp()
      let now = clock.nanoseconds
      let took = cws_timestamp() &- before
      if took < least { (least, best) = (took, (before &+ took / 2, now &- start)) }
    }
    return best
  }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    guard identifications.indices.contains(index) else {
      throw TechniqueFailure(
        call: "making processor \(index)", reason: "the machine has \(identifications.count)",
        remedy: "set \(Setting.processors)")
    }
    return try makeRewritingProcessor(index: index)
  }

  /// For whoever looks into it.
  func makeFirstProcessor() throws(TechniqueFailure) -> RewritingProcessor { try makeRewritingProcessor(index: 0) }

  private func makeRewritingProcessor(index: Int) throws(TechniqueFailure) -> RewritingProcessor {
    let turn = ProcessorTurn(rendezvous, index: index)
    turn.enter()
    defer { turn.leave() }
    return try RewritingProcessor(partition: self, turn: turn, identification: identifications[index])
  }

  var interrupts: any InterruptController { chipset }
}
