// A worker's whole life: takes a configuration, makes the machine, gives up what the run does not need, runs it, and says what
// came of it. It ends with its owner.

import Glibc
import Synchronization
import TrivisorCWorker
import TrivisorConfinement
import TrivisorPlatform
import TrivisorVMM

/// Called before the program's main function, in a process that the owner has made for this (Sources/TrivisorCWorker/worker.c).
/// - Returns: the process's status.
@_cdecl("trivisor_worker_main")
func workerMain(_ socket: Int32) -> Int32 {
  WorkerMain(socket).run()
}

private final class WorkerMain: Sendable {
  /// The owner sent no configuration.
  private static let statusWithoutOrder: Int32 = 125

  private let socket: Int32
  /// One whole message at a time.
  private let sending = Mutex(())
  private let confinement = Mutex(Confinement())

  init(_ socket: Int32) { self.socket = socket }

  private func send(_ report: WorkerMessage.Report, _ value: (any WireValue)? = nil) {
    var writer = WireWriter()
    if let value { value.write(to: &writer) }
    sending.withLock { _ in _ = WorkerMessage.send(report.rawValue, writer.bytes, to: socket) }
  }

  func run() -> Int32 {
    _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
    // Whoever does not read any more is told of by the error.
    signal(SIGPIPE, SIG_IGN)
    guard let configuration = receiveConfiguration() else { return Self.statusWithoutOrder }
    do throws(VirtualMachineError) {
      send(.result, try run(configuration))
    } catch {
      send(.error, error)
    }
    return 0
  }

  private func run(_ configuration: VirtualMachineConfiguration) throws(VirtualMachineError) -> RunResult {
    let machine = Monitor<TrivisorPlatform.VirtualMachine?>(nil)
    var assembly = try MachineAssembly(configuration) { machine.with { $0 }?.stop(.outputClosed) }
    machine.with { [assembly] in $0 = assembly.machine }
    send(.choice, assembly.choice)
    // In this thread, before it makes others.
    confinement.withLock { $0.restrictFiles(to: assembly.needs) }
    assembly.options.whenAssembled = { [self, assembly] in
      confinement.withLock { $0.restrictCalls(assembly.needs) }
    }
    assembly.machine.observe { [self] state in
      switch state {
      case .running: send(.running)
      case .paused: send(.paused)
      case .created, .ended: break
      }
    }
    let isListening = DetachedThread.start { [self, assembly] in
      takeOrders(assembly.machine)
      // Nobody wants what comes of it any more.
      _exit(0)
    }
    guard isListening else { throw .host("the worker can make no thread: raise the limit of processes (ulimit -u)") }
    do throws(MachineFailure) {
      let result = try assembly.machine.runOnThisThread(assembly.options)
      return RunResult(
        result, choice: assembly.choice, missingFeatures: assembly.missingFeatures,
        confinement: confinement.withLock { $0.title }, notes: plantedBug())
    } catch {
      throw VirtualMachineError(error)
    }
  }

  /// In debug builds, what a guest that has got out of its machine could do (TRIVISOR_PLANTED_BUG=FILE:FOLDER).
  private func plantedBug() -> [String] {
    #if DEBUG
    guard let places = getenv("TRIVISOR_PLANTED_BUG").map({ String(cString: $0) }) else { return [] }
    let words = places.split(separator: ":").map(String.init)
    guard words.count == 2 else { return [] }
    return PlantedBug.attempts(reading: words[0], writing: words[1]).map { "planted: \($0)" }
    #else
    return []
    #endif
  }

  private func receiveConfiguration() -> VirtualMachineConfiguration? {
    var descriptors = [Int32](repeating: -1, count: 64)
    let count = cworker_receive_descriptors(socket, &descriptors, Int32(descriptors.count))
    guard count >= 0, let message = receive(), message.kind == WorkerMessage.Order.configuration.rawValue else {
      return nil
    }
    var reader = WireReader(message.values, descriptors: Array(descriptors.prefix(Int(count))))
    return try? reader.read(VirtualMachineConfiguration.self)
  }

  /// One message; `nil` when the owner is gone.
  private func receive() -> (kind: UInt8, values: [UInt8])? {
    guard let head = receive(WorkerMessage.headSize) else { return nil }
    let length = (0..<4).reduce(0) { $0 | Int(head[$1]) << (8 * $1) }
    guard length <= WorkerMessage.sizeLimit, let values = receive(length) else { return nil }
    return (head[4], values)
  }

  private func receive(_ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let received = bytes[done...].withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
      if received > 0 { done += received } else if received == 0 || errno != EINTR { return nil }
    }
    return bytes
  }

  private func takeOrders(_ machine: TrivisorPlatform.VirtualMachine) {
    while let message = receive() {
      switch WorkerMessage.Order(rawValue: message.kind) {
      case .pause:
        machine.pause()
        send(.pauseFollowed)
      case .resume: machine.resume()
      case .stop: machine.stop()
      case .configuration, nil: return
      }
    }
  }
}
