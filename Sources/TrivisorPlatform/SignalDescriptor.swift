import TrivisorCLinux
import Glibc

/// A signalfd: the process's signals as something to poll.
final class SignalDescriptor {
  /// Negative, so that poll skips it, when there is nothing to wait for.
  let raw: Int32

  /// - Parameter signals: must be blocked in every thread.
  init(_ signals: [Int32]) {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal) }
    raw = signals.isEmpty ? -1 : signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
  }

  deinit { if raw >= 0 { close(raw) } }

  /// The next signal, if one has come.
  func take() -> Int32? {
    var information = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    return read(raw, &information, size) == size ? Int32(information.ssi_signo) : nil
  }
}
