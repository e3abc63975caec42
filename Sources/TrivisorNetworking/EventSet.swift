import Glibc
import SystemPackage
import TrivisorCLinux

/// What a link waits for, as one descriptor that is readable when any of it has come (epoll(7), level-triggered).
final class EventSet: Sendable {
  let descriptor: Int32

  /// - Throws: `NetworkFailure` when the host has no more descriptors.
  init() throws(NetworkFailure) {
    descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard descriptor >= 0 else { throw NetworkFailure(host: "epoll_create1", Errno(rawValue: errno)) }
  }

  deinit { close(descriptor) }

  /// Replaces what is waited for at `file`. With nothing it is no part of the set: its end would be told of at any rate.
  func change(_ file: Int32, from old: UInt32, to new: UInt32) {
    guard old != new, file >= 0 else { return }
    var event = epoll_event(events: new, data: epoll_data_t(fd: file))
    let operation = new == 0 ? EPOLL_CTL_DEL : old == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD
    epoll_ctl(descriptor, operation, file, &event)
  }

  static let readable = EPOLLIN.rawValue
  static let writable = EPOLLOUT.rawValue
}
