import Glibc

/// How a guest's process ended, and what it left.
public struct GuestEnding: Sendable {
  /// What wait(2) said.
  public enum Status: Sendable, Equatable {
    /// It ended with this exit status.
    case exited(Int32)
    /// A signal killed it.
    case killed(signal: Int32)
  }

  /// Why it was ended from here, if it was.
  public enum Reason: Sendable, Equatable {
    /// It outlived its limit.
    case overdue
    /// Whoever reads its console had seen enough.
    case enough
    /// This process was told to end.
    case interrupted
  }

  /// What wait(2) said.
  public let status: Status
  /// Why it was ended from here, if it was.
  public let reason: Reason?
  /// The result that it wrote, if it came so far.
  public let record: RunRecord?
  /// What it wrote on standard error, the beginning at most.
  public let errors: String
  /// Nanoseconds from before its start until it was gone.
  public let wallTime: UInt64
  /// Nanoseconds of processor time, in user mode and in the host's kernel.
  public let userTime: UInt64
  /// See `userTime`.
  public let systemTime: UInt64

  /// Of standard error, without the program's name, what says why there is no result: the last line, and of a command line that can't be
  /// honoured all findings.
  public var complaint: String? {
    let name = "trivisor: "
    let lines = errors.split(separator: "\n").filter { !$0.hasPrefix("\(name)technique ") }
    let own = lines.filter { $0.hasPrefix(name) }.map { String($0.dropFirst(name.count)) }
    if status == .exited(EX_USAGE), !own.isEmpty { return own.joined(separator: "; ") }
    return lines.last.map { String($0.hasPrefix(name) ? $0.dropFirst(name.count) : $0) }
  }
}
