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

  /// - Parameters:
  ///   - trace: where to write what the guest's code does.
  ///   - host: what can be executed; another one only in tests.
  public init(trace: CodeTrace? = nil, host: HostProcessor = .current) {
    self.trace = trace
    self.host = host
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
    return .available(notes: ["x86-to-x86 translation in user space, one processor"])
  }

  private static func sentence(_ lacking: [ProcessorFeature]) -> String {
    "the engine needs \(lacking.map(\.rawValue).joined(separator: ", ")), which the host's processor lacks"
  }

  /// Stock kernels run, faster than on a host whose KVM emulates them.
  public func caution() -> String? { nil }

  /// Processor features of a named model that the engine does not give; more than one processor.
  public func findings(for configuration: MachineConfiguration) -> [Finding] {
    var findings: [Finding] = []
    if configuration.processorCount > 1 {
      findings.append(
        Finding(
          .processors,
          "the rewriting technique runs one processor, not \(configuration.processorCount): change \(Setting.technique), or ask for one"
        ))
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
    var table = CPUIDTable(
      features: announced(configuration.processorModel), processor: 0, of: configuration.processorCount,
      name: configuration.processorModel.name)
    table.leaves += MonitorSignature.leaves
    return try RewritingPartition(memory: memory, bus: bus, identification: table, trace: trace)
  }
}

/// A machine under the rewriting technique.
final class RewritingPartition: Partition {
  let memory: GuestMemory
  let bus: Bus
  let identification: CPUIDTable

  let trace: CodeTrace?
  let translations: TranslationCache
  let clock: any ChipsetClock
  let chipset: Chipset
  /// When the clock in guest memory was zero.
  var startTime: UInt64 {
    get { startNanoseconds.load(ordering: .relaxed) }
    set { startNanoseconds.store(newValue, ordering: .relaxed) }
  }
  private let startNanoseconds: Atomic<UInt64>

  init(memory: GuestMemory, bus: Bus, identification: CPUIDTable, trace: CodeTrace?) throws(TechniqueFailure) {
    self.memory = memory
    self.identification = identification
    self.trace = trace
    translations = try TranslationCache(
      announced: AnnouncedFeatures(identification), memory: PhysicalMemory(memory), trace: trace)
    clock = HostChipsetClock()
    startNanoseconds = Atomic(clock.nanoseconds)
    chipset = Chipset(processorCount: 1, clock: clock)
    do throws(BusConflict) {
      self.bus = try bus.adding(ports: chipset.portClaims, memory: chipset.memoryClaims)
    } catch {
      throw TechniqueFailure(call: "machine assembly", reason: error.description)
    }
  }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    guard index == 0 else {
      throw TechniqueFailure(
        call: "making processor \(index)", reason: "the rewriting technique runs one processor",
        remedy: "set \(Setting.processors) to 1")
    }
    return try RewritingProcessor(partition: self)
  }

  var interrupts: any InterruptController { chipset }
}
