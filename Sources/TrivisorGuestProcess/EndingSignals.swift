import TrivisorCLinux
import Glibc

/// The signals that end a run in order: all that would end the process otherwise, but for SIGKILL, those of its own
/// faults, and SIGPIPE and SIGXFSZ, which are ignored because the failed call says the same.
public enum EndingSignals {
  private static let named: [(number: Int32, name: String)] = [
    (SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP"), (SIGQUIT, "SIGQUIT"), (SIGALRM, "SIGALRM"),
    (SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2"), (SIGVTALRM, "SIGVTALRM"), (SIGPROF, "SIGPROF"), (SIGPOLL, "SIGPOLL"),
    (SIGPWR, "SIGPWR"), (SIGSTKFLT, "SIGSTKFLT"), (SIGXCPU, "SIGXCPU"),
  ]

  /// Their numbers, real-time signals among them but for the one by which processors are called. Under nohup(1), without
  /// SIGHUP.
  public static let all: [Int32] =
    named.map(\.number).filter { $0 != SIGHUP || clinux_is_ignored($0) == 0 }
    + (clinux_sigrtmin()...clinux_sigrtmax()).filter { $0 != clinux_processor_signal() }

  /// For a message: the number and the name, and what stands behind it where that is not known to everybody.
  public static func title(_ number: Int32) -> String {
    guard let name = named.first(where: { $0.number == number })?.name else { return "\(number)" }
    return number == SIGXCPU ? "\(number) (\(name): the limit of processor time, ulimit -t)" : "\(number) (\(name))"
  }
}
