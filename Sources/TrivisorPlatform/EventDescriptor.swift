import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// An eventfd: lets one thread wake another that waits in `poll`.
final class EventDescriptor: Sendable {
  let raw: Int32

  init() throws(MachineFailure) {
    raw = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard raw >= 0 else {
      throw .technique(
        TechniqueFailure(
          call: "eventfd", reason: Errno(rawValue: errno).description,
          remedy: HostRemedy.of(Errno(rawValue: errno))))
    }
  }

  deinit { close(raw) }

  /// Makes it readable.
  func signal() { eventfd_write(raw, 1) }

  /// Makes it unreadable until the next signal.
  func drain() {
    var count: eventfd_t = 0
    eventfd_read(raw, &count)
  }
}
