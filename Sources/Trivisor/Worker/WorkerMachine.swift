// The owner's side of a machine in a worker.
//
//     VirtualMachine ──orders──▶ socket ──▶ WorkerMain: the machine, confined
//          ▲                        │
//          └── choice, states, result ◀──┘          consoles: descriptors and pipes, beside
//
// What comes from a worker is from a process that its guest may have taken over: it is checked, bounded, and at worst a wrong
// result of that guest's own run.

import Glibc
import TrivisorCWorker
import TrivisorVMM

/// A machine in a process of its own.
final class WorkerMachine: RunningMachine {
  /// Behind the time limit, and behind an order to stop, a worker has so long, in nanoseconds.
  private static let patience: UInt64 = 5_000_000_000

  private struct Life {
    /// Orders to pause that were given, and that were followed.
    var pausesOrdered = 0
    var pausesFollowed = 0
    var isOver = false
    /// When it is killed, by the monotonic clock.
    var killTime = UInt64.max
    /// What the end is called if it had to be killed.
    var causeOfKill: Outcome?
  }

  private let process: WorkerProcess
  private let streams: WorkerStreams
  private let life = Monitor(Life())
  private let whenChosen: @Sendable (TechniqueChoice) -> Void
  private let whenChanged: @Sendable (VirtualMachine.State) -> Void
  /// The last choice that was told.
  private let choice = Monitor<TechniqueChoice?>(nil)
  private let timeLimit: Duration?

  /// Makes the process and hands it its configuration.
  /// - Throws: `VirtualMachineError` when the host has no process, or no descriptors.
  init(
    _ configuration: VirtualMachineConfiguration, whenChosen: @escaping @Sendable (TechniqueChoice) -> Void,
    whenChanged: @escaping @Sendable (VirtualMachine.State) -> Void
  ) throws(VirtualMachineError) {
    let own = configuration.ownFindings()
    guard own.isEmpty else { throw .configuration(own) }
    self.whenChosen = whenChosen
    self.whenChanged = whenChanged
    timeLimit = configuration.timeLimit
    do throws(Errno) {
      streams = WorkerStreams()
      var configuration = configuration
      for index in configuration.serialPorts.indices {
        configuration.serialPorts[index].output = try streams.replaced(configuration.serialPorts[index].output)
      }
      if let console = configuration.virtioConsole {
        configuration.virtioConsole?.output = try streams.replaced(console.output)
      }
      if let command = configuration.linuxCommand {
        configuration.linuxCommand?.standardOutput = try streams.replaced(command.standardOutput)
        configuration.linuxCommand?.standardError = try streams.replaced(command.standardError)
      }
      var writer = WireWriter()
      writer.write(configuration)
      process = try WorkerProcess()
      let error = cworker_send_descriptors(process.socket, writer.descriptors, Int32(writer.descriptors.count))
      guard error == 0 else { throw Errno(rawValue: -error) }
      guard WorkerMessage.send(WorkerMessage.Order.configuration.rawValue, writer.bytes, to: process.socket) else {
        throw Errno(rawValue: errno)
      }
    } catch {
      let remedy = HostRemedy.of(error).text { $0.property }
      throw .host("no worker process can be made: \(error)" + (remedy.isEmpty ? "" : "; \(remedy)"))
    }
    streams.begin()
  }

  // MARK: Orders

  private func order(_ order: WorkerMessage.Order) {
    // One whole message at a time.
    life.with { life in
      if !life.isOver { _ = WorkerMessage.send(order.rawValue, to: process.socket) }
    }
  }

  func pause() {
    order(.pause)
    let number = life.with { life in
      life.pausesOrdered += 1
      return life.pausesOrdered
    }
    life.wait { $0.isOver || $0.pausesFollowed >= number ? () : nil }
  }

  func resume() { order(.resume) }

  func stop() {
    kill(at: monotonicNanoseconds() &+ Self.patience, as: .stopped)
    order(.stop)
  }

  /// A worker's machine has none (`VirtualMachineConfiguration.ownFindings`).
  func resizeBalloon(to bytes: UInt64) -> Bool { false }
  func balloonReport() -> MemoryBalloonReport? { nil }

  private func kill(at time: UInt64, as outcome: Outcome) {
    life.with { life in
      guard time < life.killTime else { return }
      (life.killTime, life.causeOfKill) = (time, outcome)
    }
  }

  // MARK: On the run's thread

  /// Listens to the worker until it has ended.
  func run() -> Result<RunResult, VirtualMachineError> {
    var assembler = WorkerMessage.Assembler()
    var result: Result<RunResult, VirtualMachineError>?
    var isConfused = false
    let began = monotonicNanoseconds()
    var started = began
    do throws(WireFault) {
      while result == nil, let bytes = receive() {
        assembler.take(bytes)
        while result == nil, let message = try assembler.next() {
          if message.kind == WorkerMessage.Report.running.rawValue, started == began {
            started = monotonicNanoseconds()
            limitTime()
          }
          result = try take(message)
        }
      }
    } catch {
      isConfused = true
    }
    if isConfused { process.kill() }
    let end = process.reap(patience: Self.patience)
    let causeOfKill = life.with { life in
      life.isOver = true
      return life.killTime <= monotonicNanoseconds() ? life.causeOfKill : nil
    }
    streams.finish()
    if let result { return result }
    let outcome = causeOfKill ?? .workerLost(isConfused ? .confused : end)
    guard let choice = choice.with({ $0 }) else {
      return .failure(.host("\(outcome), before there was a machine"))
    }
    let ended = monotonicNanoseconds()
    return .success(
      RunResult(
        outcome: outcome, choice: choice, missingFeatures: [],
        setUpTime: .nanoseconds(Int64(clamping: started - began)),
        guestTime: .nanoseconds(Int64(clamping: ended - started)), counters: [:], details: [:], notes: [],
        confinement: "unknown"))
  }

  /// A worker whose guest has taken it over may not keep to its limit.
  private func limitTime() {
    guard let timeLimit else { return }
    let (whole, overflow) = UInt64(clamping: timeLimit.components.seconds).multipliedReportingOverflow(
      by: 1_000_000_000)
    let limit = overflow ? UInt64.max / 2 : min(whole, .max / 2) &+ 1_000_000_000
    kill(at: monotonicNanoseconds() &+ limit &+ Self.patience, as: .timedOut)
  }

  /// What has come; `nil` at the end, or when the worker had to be killed.
  private func receive() -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      // Looked at again each quarter of a second: the time may have been changed meanwhile.
      var descriptor = pollfd(fd: process.socket, events: Int16(POLLIN), revents: 0)
      let ready = poll(&descriptor, 1, 250)
      if ready > 0 {
        let count = recv(process.socket, &buffer, buffer.count, 0)
        if count > 0 { return Array(buffer[..<count]) }
        if count == 0 || errno != EINTR { return nil }
      }
      if monotonicNanoseconds() >= life.with({ $0.killTime }) {
        process.kill()
        return nil
      }
    }
  }

  /// - Returns: the end, if it was told.
  private func take(
    _ message: (kind: UInt8, values: [UInt8])
  ) throws(WireFault) -> Result<RunResult, VirtualMachineError>? {
    var reader = WireReader(message.values)
    switch WorkerMessage.Report(rawValue: message.kind) {
    case .choice:
      let told = try reader.read(TechniqueChoice.self)
      choice.with { $0 = told }
      whenChosen(told)
    case .running: whenChanged(.running)
    case .paused: whenChanged(.paused)
    case .pauseFollowed: life.with { $0.pausesFollowed += 1 }
    case .result: return .success(try reader.read())
    case .error: return .failure(try reader.read())
    case nil: throw WireFault()
    }
    return nil
  }
}
