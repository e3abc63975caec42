import Glibc
import Synchronization
import TrivisorCLinux
import TrivisorVMM

/// Waits for a link on a thread of its own, and makes a domain's processor look; then not again until that one has.
final class NetworkWaiter: Sendable {
  /// What the thread and its owner have in common.
  private final class Shared: Sendable {
    let link: any NetworkLink
    let doorbell: any DomainDoorbell
    /// What the thread hears of beside the link.
    let wishes = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    let hasEvent = Atomic<Bool>(false)
    let isOver = Atomic<Bool>(false)

    init(_ link: any NetworkLink, _ doorbell: any DomainDoorbell) {
      self.link = link
      self.doorbell = doorbell
    }

    deinit { close(wishes) }

    func wait() {
      while !isOver.load(ordering: .acquiring) {
        var both = [
          pollfd(fd: wishes, events: Int16(POLLIN), revents: 0),
          pollfd(fd: link.eventDescriptor, events: Int16(POLLIN), revents: 0),
        ]
        // After an event, only that it was looked at is waited for.
        let waits = !hasEvent.load(ordering: .acquiring)
        guard poll(&both, waits ? 2 : 1, -1) > 0 else { continue }
        var count: eventfd_t = 0
        if both[0].revents != 0 { eventfd_read(wishes, &count) }
        if waits, both[1].revents != 0 {
          hasEvent.store(true, ordering: .releasing)
          doorbell.ring()
        }
      }
    }
  }

  private let shared: Shared

  init(_ link: any NetworkLink, _ doorbell: any DomainDoorbell) {
    let shared = Shared(link, doorbell)
    self.shared = shared
    // Without a thread nothing comes in: frames are lost, as they may be.
    _ = DetachedThread.start { shared.wait() }
  }

  deinit {
    shared.isOver.store(true, ordering: .releasing)
    eventfd_write(shared.wishes, 1)
  }

  /// Whether there is something to be looked at.
  var hasEvent: Bool { shared.hasEvent.load(ordering: .acquiring) }

  /// It was looked at.
  func goOn() {
    if shared.hasEvent.exchange(false, ordering: .acquiringAndReleasing) { eventfd_write(shared.wishes, 1) }
  }
}
