import TrivisorCLinux
import Glibc
import TrivisorVMM

/// The threads of one virtio device, mostly one: they handle requests, so that no vCPU waits for a disk.
final class VirtioWorker: Sendable {
  private enum Phase {
    case notStarted, running, stopping, ended
  }

  private struct Life {
    var phase = Phase.notStarted
    var threads = 0
    /// Between two looks at the queues the threads wait as long as somebody holds them.
    var holders = 0
    var atWork = 0
  }

  /// What one thread looks at.
  private struct Part: Sendable {
    let queues: [VirtioQueue]
    let doorbell: Doorbell
    /// What it waits for beside the doorbell.
    let event: Int32?
  }

  /// What a thread is handed.
  private final class Beginning: Sendable {
    let worker: VirtioWorker
    let part: Part

    init(_ worker: VirtioWorker, _ part: Part) {
      self.worker = worker
      self.part = part
    }
  }

  private let device: any VirtioDevice
  private let parts: [Part]
  private let life = Monitor(Life())

  /// - Parameters:
  ///   - threads: the device's.
  ///   - doorbells: one for each of them.
  init(device: any VirtioDevice, threads: [VirtioThread], queues: [VirtioQueue], doorbells: [Doorbell]) {
    self.device = device
    parts = zip(threads, doorbells).map { thread, doorbell in
      Part(queues: thread.queues.map { queues[$0] }, doorbell: doorbell, event: thread.eventDescriptor)
    }
  }

  /// Makes the threads, if they weren't made before.
  /// - Returns: whether there are all.
  func start() -> Bool {
    life.with { life in
      guard life.phase == .notStarted else { return life.phase == .running && life.threads == parts.count }
      for part in parts {
        let reference = Unmanaged.passRetained(Beginning(self, part))
        var thread = pthread_t()
        guard pthread_create(&thread, nil, { VirtioWorker.body($0) }, reference.toOpaque()) == 0 else {
          reference.release()
          break
        }
        pthread_detach(thread)
        life.threads += 1
        life.phase = .running
      }
      return life.threads == parts.count
    }
  }

  /// Ends the threads after the requests at hand; returns when they have ended.
  func stop() {
    life.with { life in
      switch life.phase {
      case .notStarted: life.phase = .ended
      case .running: life.phase = .stopping
      case .stopping, .ended: break
      }
    }
    for part in parts { part.doorbell.ring() }
    life.wait { $0.phase == .ended ? () : nil }
  }

  /// Keeps the threads from their queues; returns when the requests at hand are done. To be followed by `release`.
  func hold() {
    life.with { $0.holders += 1 }
    life.wait { $0.atWork > 0 ? nil : () }
  }

  /// Ends a `hold`; the last one makes the threads look at what came meanwhile.
  func release() { life.with { $0.holders -= 1 } }

  /// Looks at every queue once.
  func processQueues() {
    for part in parts { process(part) }
  }

  private func process(_ part: Part) {
    for queue in part.queues { device.process(queue) }
  }

  private static func body(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let beginning = Unmanaged<Beginning>.fromOpaque(argument).takeRetainedValue()
    let (worker, part) = (beginning.worker, beginning.part)
    var blocked = sigset_t()
    sigfillset(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    while true {
      part.doorbell.wait(or: part.event)
      let goesOn: Bool = worker.life.wait { life in
        if life.phase == .stopping { return false }
        if life.holders > 0 { return nil }
        life.atWork += 1
        return true
      }
      guard goesOn else { break }
      worker.process(part)
      worker.life.with { $0.atWork -= 1 }
    }
    worker.life.with { life in
      life.threads -= 1
      if life.threads == 0 { life.phase = .ended }
    }
    return nil
  }
}
