import TrivisorCommandChannel
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// What the process's exit status means. A guest that gave a code of its own ends the process with that.
///
/// After timeout(1), docker(1) and sysexits.h; `--json` tells a guest's own 120 to 127 from these.
enum ExitStatus: Int32, CaseIterable {
  /// The guest switched off, or said 0.
  case success = 0
  /// The command line asks for something that does not exist or cannot be had.
  case usage = 64
  /// The guest ended without the status of the command that it was to run.
  case commandLost = 120
  /// The guest's first process ended, to which its kernel answers with a panic.
  case initEnded = 121
  /// The guest reset its machine without an exit code.
  case reset = 122
  /// The guest's kernel panicked.
  case panicked = 123
  /// The time limit of --timeout ran out.
  case timedOut = 124
  /// Trivisor or the host failed, not the guest.
  case failed = 125
  /// The guest crashed or halted for good.
  case crashed = 126
  /// The image can't be found, read or loaded.
  case notLoaded = 127
  /// Ctrl-C, or SIGINT from elsewhere.
  case interrupted = 130
  /// Nobody reads the guest's output.
  case outputClosed = 141
  /// SIGTERM.
  case terminated = 143

  /// The status that a run ends with.
  static func of(_ outcome: Outcome, resetPolicy: ResetPolicy) -> Int32 {
    switch outcome {
    case .exited(let code): Int32(code)
    case .commandEnded(let status): Int32(status.code)
    case .commandLost: commandLost.rawValue
    case .poweredOff: success.rawValue
    case .reset: resetPolicy == .success ? success.rawValue : reset.rawValue
    case .panicked(let panic): panic.isEndOfInit ? initEnded.rawValue : panicked.rawValue
    case .tripleFault, .halted, .crashed: crashed.rawValue
    case .failed: failed.rawValue
    case .stopped(.timeout): timedOut.rawValue
    case .stopped(.signal(let number)): 128 + number
    case .stopped(.outputClosed): outputClosed.rawValue
    case .stopped(.user), .stopped(.request): interrupted.rawValue
    }
  }
}
