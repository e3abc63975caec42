import TrivisorCLinux
import Glibc
import TrivisorVMM

/// The thread of one virtio device: it handles requests, so that no vCPU waits for a disk.
final class VirtioWorker: Sendable {
  private enum Phase {
    case notStarted, running, stopping, ended
  }

  private struct Life {
    var phase = Phase.notStarted
    /// Between two looks at the queues the thread waits as long as somebody holds it.
    var holders = 0
    var isAtWork = false
  }

  private let device: any VirtioDevice
  private let queues: [VirtioQueue]
  private let doorbell: Doorbell
  private let life = Monitor(Life())

  init(device: any VirtioDevice, queues: [VirtioQueue], doorbell: Doorbell) {
    self.device = device
    self.queues = queues
    self.doorbell = doorbell
  }

  /// Makes the thread, if it wasn't made before.
  /// - Returns: whether there is one.
  func start() -> Bool {
    life.with { life in
      guard life.phase == .notStarted else { return life.phase == .running }
      let reference = Unmanaged.passRetained(self)
      var thread = pthread_t()
      guard pthread_create(&thread, nil, { VirtioWorker.body($0) }, reference.toOpaque()) == 0 else {
        reference.release()
        return false
      }
      pthread_detach(thread)
      life.phase = .running
      return true
    }
  }

  /// Ends the thread after the request at hand; returns when it has ended.
  func stop() {
    life.with { life in
      switch life.phase {
      case .notStarted: life.phase = .ended
      case .running: life.phase = .stopping
      case .stopping, .ended: break
      }
    }
    doorbell.ring()
    life.wait { $0.phase == .ended ? () : nil }
  }

  /// Keeps the thread from its queues; returns when the requests at hand are done. To be followed by `release`.
  func hold() {
    life.with { $0.holders += 1 }
    life.wait { $0.isAtWork ? nil : () }
  }

  /// Ends a `hold`; the last one makes the thread look at what came meanwhile.
  func release() { life.with { $0.holders -= 1 } }

  /// Looks at every queue once.
  func processQueues() {
    for queue in queues { device.process(queue) }
  }

  private static func body(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let worker = Unmanaged<VirtioWorker>.fromOpaque(argument).takeRetainedValue()
    var blocked = sigset_t()
    sigfillset(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    while true {
      worker.doorbell.wait(or: worker.device.eventDescriptor)
      let goesOn: Bool = worker.life.wait { life in
        if life.phase == .stopping { return false }
        if life.holders > 0 { return nil }
        life.isAtWork = true
        return true
      }
      guard goesOn else { break }
      worker.processQueues()
      worker.life.with { $0.isAtWork = false }
    }
    worker.life.with { $0.phase = .ended }
    return nil
  }
}
