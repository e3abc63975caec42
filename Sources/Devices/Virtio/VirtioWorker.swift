import CLinux
import Glibc
import VMM

/// The thread of one virtio device: it handles requests, so that no vCPU waits for a disk.
final class VirtioWorker: Sendable {
  private enum Phase {
    case notStarted, running, stopping, ended
  }

  private let device: any VirtioDevice
  private let queues: [VirtioQueue]
  private let doorbell: Doorbell
  private let phase = Monitor(Phase.notStarted)

  init(device: any VirtioDevice, queues: [VirtioQueue], doorbell: Doorbell) {
    self.device = device
    self.queues = queues
    self.doorbell = doorbell
  }

  /// Makes the thread, if it wasn't made before.
  /// - Returns: whether there is one.
  func start() -> Bool {
    phase.with { phase in
      guard phase == .notStarted else { return phase == .running }
      let reference = Unmanaged.passRetained(self)
      var thread = pthread_t()
      guard pthread_create(&thread, nil, { VirtioWorker.body($0) }, reference.toOpaque()) == 0 else {
        reference.release()
        return false
      }
      pthread_detach(thread)
      phase = .running
      return true
    }
  }

  /// Ends the thread after the request at hand; returns when it has ended.
  func stop() {
    phase.with { phase in
      switch phase {
      case .notStarted: phase = .ended
      case .running: phase = .stopping
      case .stopping, .ended: break
      }
    }
    doorbell.ring()
    phase.wait { $0 == .ended ? () : nil }
  }

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
      worker.doorbell.wait()
      if worker.phase.with({ $0 == .stopping }) { break }
      worker.processQueues()
    }
    worker.phase.with { $0 = .ended }
    return nil
  }
}
