import TrivisorVMM

/// One behaviour of the processor or the machine, and the guest that shows it.
public struct ConformanceCase: Sendable, CustomStringConvertible {
  /// How a case is expected to end.
  public enum Ending: Sendable, Equatable {
    /// The processor that stopped gave this reason.
    case stopped(StopReason)
    /// Nothing can wake the machine: found by asking, after a stop request, whether it is halted for good.
    case haltedForGood
    /// The stop request that the guest had asked for by itself (`EVENT_STOP`).
    case stopRequested
  }

  /// What the runner does when the guest's own stop request has arrived, before it lets the guest go on.
  typealias Interlude = @Sendable (any Processor) throws -> [String]

  /// Unique, lower case with hyphens: "port-in-byte".
  public let name: String
  /// One sentence with the manual's section where it is not obvious.
  public let summary: String
  /// The guest's name in the assembly files.
  public let guest: String
  /// A second guest that lies at 0x9000: a handler of its own, the target of a gate, another processor's start.
  public private(set) var companion: String?
  /// How it is entered.
  public let mode: GuestMode
  /// What must be there, all of it, or the case is skipped. From the table of `Ability`.
  public var needs: Set<Ability> = []
  /// Processors of the machine; those after the first wait to be started.
  public var processorCount = 1
  /// What the guest reports, in order; `nil` where `check` judges it.
  public var results: [UInt64]? = []
  /// What the journal devices saw, in order; `nil` where it does not matter.
  public var journal: [DeviceAccess]?
  /// Compare the journal byte by byte: for accesses that a technique may split as it likes.
  public var journalsBytes = false
  /// How it ends.
  public var ending = Ending.stopped(.exited(code: 0))
  /// Changes memory and registers before the start.
  var prepare: @Sendable (inout MachineState, TableWriter) throws -> Void = { _, _ in }
  /// Runs at each stop that the guest asked for; without it, the stop ends the case.
  var interlude: Interlude?
  /// Whether a stop that the guest asked for came before what it is to interrupt had begun, as it may on a busy host: then
  /// another one follows.
  var isTooEarly: @Sendable (any Processor) throws -> Bool = { _ in false }
  /// Whether it says what memory or registers are before the start, and whether it looks at them at the end.
  private(set) var isPrepared = false, isChecked = false
  /// Looks at what is left; one sentence for each finding.
  var check: @Sendable (Observation) throws -> [String] = { _ in [] }

  init(_ name: String, _ mode: GuestMode, _ summary: String, guest: String? = nil) {
    self.name = name
    self.summary = summary
    self.mode = mode
    self.guest = guest ?? String(name.map { $0 == "-" ? "_" : $0 })
  }

  /// The name.
  public var description: String { name }
}

extension ConformanceCase {
  /// A copy with something changed.
  func with(_ change: (inout Self) -> Void) -> Self {
    var copy = self
    change(&copy)
    return copy
  }

  func reporting(_ results: [UInt64]) -> Self { with { $0.results = ($0.results ?? []) + results } }
  func journaling(_ accesses: [DeviceAccess]) -> Self { with { $0.journal = accesses } }
  func ending(_ ending: Ending) -> Self { with { $0.ending = ending } }
  func accompanied(by companion: String) -> Self { with { $0.companion = companion } }
  func prepared(_ prepare: @escaping @Sendable (inout MachineState, TableWriter) throws -> Void) -> Self {
    with { ($0.prepare, $0.isPrepared) = (prepare, true) }
  }
  func checked(_ check: @escaping @Sendable (Observation) throws -> [String]) -> Self {
    with { ($0.check, $0.isChecked) = (check, true) }
  }
}

/// What a run left behind.
public struct Observation: Sendable {
  /// How it ended.
  public let ending: ConformanceCase.Ending
  /// What the guest reported.
  public let results: [UInt64]
  /// What the journal devices saw.
  public let journal: [DeviceAccess]
  /// What the technique gives of the processor model here.
  public let features: Set<ProcessorFeature>
  /// Each processor at the end.
  public let states: [MachineState]
  /// The guest's RAM.
  public let memory: GuestMemory
}

/// What became of a case.
public enum ConformanceVerdict: Sendable, Equatable {
  /// As expected.
  case passed
  /// Expected and got, a line each.
  case failed(String)
  /// Not as expected, because of a defect of this host that is known by name.
  case knownDefect(Ability)
  /// The technique lacks this here; the case did not run.
  case skipped(Ability)
  /// A Xen domain has no such thing.
  case refused(DomainRefusal)
}
