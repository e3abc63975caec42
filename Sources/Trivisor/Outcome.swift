import TrivisorCommandChannel
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// How a machine's run ended.
public enum Outcome: Sendable, Equatable, CustomStringConvertible {
  /// How a command in a Linux guest ended.
  public enum CommandStatus: Sendable, Equatable {
    /// By itself.
    case exited(UInt8)
    /// By a signal.
    case killed(signal: UInt8)
  }

  /// The guest gave an exit code through the guest interface.
  case exited(code: UInt8)
  /// The command that the guest was to run has ended.
  case commandEnded(CommandStatus)
  /// The guest ended without the status of the command that it was to run; why.
  case commandLost(String)
  /// The guest switched the machine off.
  case poweredOff
  /// The guest reset the machine without an exit code.
  case reset
  /// The guest's kernel gave up; what it said on its console, if it could be read there.
  case panicked(reason: String?)
  /// The guest died of a triple fault.
  case tripleFault
  /// Every processor halted with interrupts off.
  case halted
  /// The technique could not go on with the guest.
  case crashed(CrashReport)
  /// The time limit ran out.
  case timedOut
  /// `VirtualMachine.stop()`, or the end of the task that ran the machine.
  case stopped
  /// Nobody reads what the guest writes any more.
  case outputClosed
  /// The host refused something: what, and what to do.
  case failed(String)
  /// The worker process ended before its machine's run did: by a fault of the monitor, or because somebody killed it.
  case workerLost(WorkerEnd)

  /// How a worker process ended.
  public enum WorkerEnd: Sendable, Hashable, CustomStringConvertible {
    /// By itself.
    case exited(status: Int32)
    /// By a signal: SIGKILL from outside, or of a host without memory; SIGSEGV, SIGILL and the like of a fault.
    case killed(signal: Int32)
    /// It said what no worker says, and was killed.
    case confused
    /// The host does not tell: this process has its children reaped by others.
    case unknown

    /// A clause for a person.
    public var description: String {
      switch self {
      case .exited(let status): "it ended with status \(status)"
      case .killed(let signal): "signal \(signal) killed it"
      case .confused: "it said what no worker says"
      case .unknown: "how, the host does not tell"
      }
    }
  }

  /// Whether the guest did what it was to do: it switched off, or it or its command gave 0.
  public var isSuccess: Bool { [.poweredOff, .exited(code: 0), .commandEnded(.exited(0))].contains(self) }

  /// One sentence without a full stop; of a crash, the processor's registers below it.
  public var description: String {
    switch self {
    case .exited(let code): "the guest gave the exit code \(code)"
    case .commandEnded(.exited(let status)): "the command ended with status \(status)"
    case .commandEnded(.killed(let signal)): "signal \(signal) killed the command"
    case .commandLost(let reason): "there is no status of the command: \(reason)"
    case .poweredOff: "the guest switched the machine off"
    case .reset: "the guest reset the machine without an exit code"
    case .panicked(let reason): "the guest's kernel panicked" + (reason.map { ": \($0)" } ?? "")
    case .tripleFault: "the guest crashed: triple fault"
    case .halted: "the guest halted for good: every processor stands at HLT with interrupts off"
    case .crashed(let report): "the guest crashed: \(report)"
    case .timedOut: "the guest ran longer than its time limit"
    case .stopped: "the run was stopped"
    case .outputClosed: "nobody reads what the guest writes any more"
    case .failed(let reason): reason
    case .workerLost(let end): "the worker process was lost: \(end)"
    }
  }

  init(_ outcome: TrivisorPlatform.Outcome) {
    self =
      switch outcome {
      case .exited(let code): .exited(code: code)
      case .commandEnded(.exited(let status)): .commandEnded(.exited(status))
      case .commandEnded(.killed(let signal)): .commandEnded(.killed(signal: signal))
      case .commandLost(let reason): .commandLost(reason)
      case .poweredOff: .poweredOff
      case .reset: .reset
      case .panicked(let panic): .panicked(reason: panic.reason)
      case .tripleFault: .tripleFault
      case .halted: .halted
      case .crashed(let report): .crashed(CrashReport(report))
      case .stopped(.timeout): .timedOut
      case .stopped(.outputClosed): .outputClosed
      case .stopped: .stopped
      case .failed(let failure): .failed(failure.sentence.text { $0.property })
      }
  }
}

/// What is known of a guest that a technique could not go on with.
public struct CrashReport: Sendable, Equatable, CustomStringConvertible {
  /// One sentence: what happened.
  public let summary: String
  /// The processor's registers by name, as far as they could be read: those that kernels print.
  public let registers: [String: UInt64]
  /// The bytes at RIP, as many as could be read, at most 15.
  public let instruction: [UInt8]
  /// The summary, and the registers as kernels print them.
  public let description: String

  init(summary: String, registers: [String: UInt64], instruction: [UInt8], description: String) {
    self.summary = summary
    self.registers = registers
    self.instruction = instruction
    self.description = description
  }

  init(_ report: TrivisorVMM.CrashReport) {
    summary = report.summary
    instruction = report.instruction
    description = report.description
    registers = report.state.map { Dictionary(uniqueKeysWithValues: $0.namedRegisters) } ?? [:]
  }
}
