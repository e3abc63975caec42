import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// How a transport tells a driver.
protocol VirtioNotifier: AnyObject, Sendable {
  /// Requests of this queue are done.
  func notifyUsed(queue: Int)
  /// The configuration space, or the device's own status, changed.
  func notifyConfigurationChange()
}

/// What surrounds a device: its status, the way to its driver, the doorbell of its thread.
public final class VirtioHost: Sendable {
  /// Bits of the device status (virtio 1.2, 2.1).
  enum Status {
    static let driverOK: UInt8 = 4
    static let featuresOK: UInt8 = 8
    static let needsReset: UInt8 = 64
    /// What a driver may set.
    static let driverBits: UInt8 = 1 | 2 | 4 | 8 | 128
    /// All that the device status can have.
    static let all: UInt8 = driverBits | needsReset
  }

  let status = Atomic<UInt8>(0)
  let generation = Atomic<UInt32>(0)
  /// Whether the transport lets the device reach memory at all: a PCI function must be a bus master for that.
  let mayUseMemory = Atomic<Bool>(true)
  /// One a thread of the device's.
  let doorbells: [Doorbell]
  /// Which of the threads serves a queue.
  private let threadOfQueue: [Int: Int]
  private let notifier: any VirtioNotifier
  private let firstFault = Mutex<VirtioFault?>(nil)

  init(notifier: any VirtioNotifier, threads: [VirtioThread]) throws(DeviceFailure) {
    var doorbells: [Doorbell] = []
    var threadOfQueue: [Int: Int] = [:]
    for (index, thread) in threads.enumerated() {
      doorbells.append(try Doorbell())
      for queue in thread.queues { threadOfQueue[queue] = index }
    }
    self.doorbells = doorbells
    self.threadOfQueue = threadOfQueue
    self.notifier = notifier
  }

  /// Makes the device's threads look at their queues.
  func wake() { for doorbell in doorbells { doorbell.ring() } }

  /// Of the thread that serves this queue; `nil` if no queue has that number.
  func doorbell(ofQueue queue: Int) -> Doorbell? {
    threadOfQueue[queue].map { doorbells[$0] }
  }

  /// Makes the thread of this queue look at it; of a number that no queue has, nobody need hear.
  func wake(queue: Int) { doorbell(ofQueue: queue)?.ring() }

  /// Tells the driver that requests are done.
  func notifyUsed(queue: Int) { notifier.notifyUsed(queue: queue) }

  /// Tells the driver that the configuration space changed.
  func configurationChanged() {
    generation.add(1, ordering: .releasing)
    if status.load(ordering: .acquiring) & Status.driverOK != 0 { notifier.notifyConfigurationChange() }
  }

  /// Whether the driver broke the rules; nothing is done for it until it resets the device.
  var isBroken: Bool { status.load(ordering: .acquiring) & Status.needsReset != 0 }

  /// What the driver did wrong since the last reset.
  var fault: VirtioFault? { firstFault.withLock { $0 } }

  /// Marks the device broken and tells the driver.
  func fail(_ fault: VirtioFault) {
    let before = status.bitwiseOr(Status.needsReset, ordering: .acquiringAndReleasing).oldValue
    guard before & Status.needsReset == 0 else { return }
    firstFault.withLock { $0 = fault }
    if before & Status.driverOK != 0 { notifier.notifyConfigurationChange() }
  }

  /// Replaces status and generation; tells nobody.
  func restore(status: UInt8, generation: UInt32, fault: VirtioFault?) {
    firstFault.withLock { $0 = fault }
    self.generation.store(generation, ordering: .releasing)
    self.status.store(status, ordering: .releasing)
  }

  func clear() {
    firstFault.withLock { $0 = nil }
    status.store(0, ordering: .releasing)
  }
}

/// An eventfd that a driver's notification rings: by the bus, or by the host's kernel where a technique binds it.
public final class Doorbell: Sendable {
  /// For `EventBinding`.
  public let fileDescriptor: Int32

  init() throws(DeviceFailure) {
    fileDescriptor = eventfd(0, Int32(EFD_CLOEXEC))
    guard fileDescriptor >= 0 else {
      throw DeviceFailure(
        call: "eventfd", Errno(rawValue: errno))
    }
  }

  deinit { close(fileDescriptor) }

  /// Never waits: the count would have to reach 2^64 first.
  func ring() { eventfd_write(fileDescriptor, 1) }

  /// Waits until it was rung since the last time, or, if there is another descriptor, until that one is readable.
  func wait(or other: Int32? = nil) {
    if let other {
      var both = [
        pollfd(fd: fileDescriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: other, events: Int16(POLLIN), revents: 0),
      ]
      while poll(&both, 2, -1) < 0, errno == EINTR {}
      if both[0].revents == 0 { return }
    }
    var count: eventfd_t = 0
    while eventfd_read(fileDescriptor, &count) != 0, errno == EINTR {}
  }
}
