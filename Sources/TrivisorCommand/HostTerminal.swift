import Glibc
import SystemPackage
import TrivisorCommandChannel
import TrivisorDevices

/// The terminal that this process was started at, if it was.
enum HostTerminal {
  /// The terminal on standard input, if this process may read it now: a background job must not. On a terminal that is
  /// not this session's, there are no jobs.
  static func foreground() -> Terminal? {
    let foreground = tcgetpgrp(STDIN_FILENO)
    guard isatty(STDIN_FILENO) != 0, foreground < 0 || foreground == getpgrp() else { return nil }
    return Terminal(fileDescriptor: STDIN_FILENO)
  }

  /// Of the one on standard output; a usual one where it does not say.
  static var size: CommandOrder.Size {
    let size = Terminal.size(of: STDOUT_FILENO) ?? (80, 24)
    return CommandOrder.Size(columns: size.columns, rows: size.rows)
  }

  /// How wide the one at a descriptor is; nil if there is none, or it does not say. Some tell their width, and no height.
  static func columns(of descriptor: Int32) -> Int? {
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
    return Int(size.ws_col)
  }

  /// Hands every key to the guest, or says that it can't.
  static func makeRaw(_ terminal: Terminal) {
    do throws(Errno) {
      try terminal.makeRaw()
    } catch {
      Diagnostics.say("the terminal can't be made raw (\(error)): keys reach the guest line by line")
    }
  }

  /// In the first thread, before all others: they inherit it, and the signals wait for the one that reads them.
  static func block(_ signals: [Int32]) {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }
}
