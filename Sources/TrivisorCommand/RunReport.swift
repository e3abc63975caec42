import TrivisorCommandChannel
import TrivisorConfinement
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM
import TrivisorVersion

/// What `--json` writes: docs/result.md describes each member.
struct RunReport: Encodable {
  /// Times in milliseconds.
  struct Times: Encodable {
    let sinceCommand: Double
    let setUp: Double
    let guest: Double
    /// When the first instruction ran, in nanoseconds of the host's CLOCK_MONOTONIC.
    let firstInstruction: UInt64
    let sinceExec: SinceExec
  }

  /// Milliseconds since the process was made.
  struct SinceExec: Encodable {
    let memory: Double
    let image: Double
    let firstInstruction: Double
    let firstOutput: Double?
    let firstInterruptDrivenOutput: Double?
    let milestones: [Milestone]
  }

  /// What the guest wrote to the milestone port.
  struct Milestone: Encodable {
    let value: UInt8
    let at: Double
  }

  /// The processors and the memory.
  struct Machine: Encodable {
    let processors: Int
    let memory: UInt64
    let processorModel: String
    let missingFeatures: [String]
  }

  /// Bytes.
  struct Memory: Encodable {
    let peakResident: UInt64
  }

  /// Raised when a member changes its meaning or goes.
  let schemaVersion = 1
  let version = TrivisorVersion.number
  /// What the executable was built from, if that is known.
  let commit = TrivisorVersion.commit
  let image: String
  let technique: String
  /// "translated" where that is not how the technique's name would have it.
  let manner: String?
  let techniqueReason: String
  /// What held the process while the guest ran.
  let confinement: String
  let machine: Machine
  let outcome: String
  /// The guest's own code, if it gave one.
  let guestCode: UInt8?
  /// The signal that killed the guest's command, if one did.
  let guestSignal: UInt8?
  /// What the process exits with.
  let status: Int32
  /// One sentence where something failed.
  let detail: String?
  let times: Times
  let memory: Memory
  let counters: [String: UInt64]
  /// What only the technique counts.
  let details: [String: UInt64]

  init(_ session: RunSession, result: RunResult, outcome: Outcome, status: Int32, confinement: Confinement) {
    self.confinement = confinement.title
    image = session.guest.name
    technique = session.choice.technique.name.rawValue
    manner = session.isTranslated ? "translated" : nil
    techniqueReason = session.choice.reason.forCommandLine
    let configuration = session.configuration.machine
    machine = Machine(
      processors: configuration.processorCount, memory: configuration.memorySize,
      processorModel: configuration.processorModel.name,
      missingFeatures: session.choice.technique.reductions(for: configuration).map(\.rawValue))
    (self.outcome, guestCode, detail) = Self.describe(outcome)
    if case .commandEnded(.killed(signal: let signal)) = outcome { guestSignal = signal } else { guestSignal = nil }
    self.status = status
    times = Times(
      sinceCommand: Double(monotonicNanoseconds() - session.began) / 1e6, setUp: Double(result.times.setUp) / 1e6,
      guest: Double(result.times.guest) / 1e6, firstInstruction: result.times.firstInstruction,
      sinceExec: Self.sinceExec(result.timeline, session.execution))
    memory = Memory(peakResident: ResidentMemory.peak)
    counters = Dictionary(
      uniqueKeysWithValues: CountedEvent.allCases.map { ($0.name, result.counters[$0]) })
    details = result.details
  }

  private static func sinceExec(_ timeline: Timeline, _ execution: UInt64) -> SinceExec {
    func milliseconds(_ time: UInt64) -> Double { Double(Int64(bitPattern: time &- execution)) / 1e6 }
    return SinceExec(
      memory: milliseconds(timeline.memory), image: milliseconds(timeline.image),
      firstInstruction: milliseconds(timeline.firstInstruction),
      firstOutput: timeline.firstOutput.map(milliseconds),
      firstInterruptDrivenOutput: timeline.firstInterruptDrivenOutput.map(milliseconds),
      milestones: timeline.milestones.map { Milestone(value: $0.value, at: milliseconds($0.time)) })
  }

  private static func describe(_ outcome: Outcome) -> (String, UInt8?, String?) {
    switch outcome {
    case .exited(let code): ("exited", code, nil)
    case .commandEnded(let status): ("exited", status.code, nil)
    case .commandLost(let reason): ("commandLost", nil, reason)
    case .poweredOff: ("poweredOff", nil, nil)
    case .reset: ("reset", nil, nil)
    case .panicked(let panic): (panic.isEndOfInit ? "initEnded" : "panicked", nil, panic.reason)
    case .tripleFault: ("tripleFault", nil, nil)
    case .halted: ("halted", nil, nil)
    case .crashed(let report): ("crashed", nil, report.summary)
    case .failed(let failure): ("failed", nil, failure.sentence.forCommandLine)
    case .stopped(.request): ("stopped", nil, "on request")
    case .stopped(.timeout): ("timedOut", nil, nil)
    case .stopped(.signal(let number)): ("signalled", nil, "signal \(number)")
    case .stopped(.user): ("stopped", nil, "at the terminal")
    case .stopped(.outputClosed): ("outputClosed", nil, nil)
    }
  }
}
