// The host's terminal while a guest uses it.
//
// Raw on the way in: no echo, no lines, no signals from keys, no translation of carriage returns, because all of that is
// the guest's own terminal driver's work. Cooked on the way out: OPOST and ONLCR stay as they are, so that a guest that
// ends its lines with a bare line feed (ours do) looks right, and one that sends carriage return and line feed (Linux'
// console) looks right too: the second carriage return moves nothing.
//
// Whatever happens, the terminal must be left as it was found. `restore()` may be called at any time, from any thread, any
// number of times, and from a signal handler: it allocates nothing, takes no lock, and calls only tcgetpgrp(3), getpgrp(2)
// and tcsetattr(3), which POSIX lists as async-signal-safe.

import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage

/// A terminal that can be made raw and is restored.
public final class Terminal: Sendable {
  private let descriptor: Int32
  /// The settings found; written once, before anybody else knows of this object.
  private nonisolated(unsafe) let saved: UnsafeMutablePointer<termios>
  private let isRaw = Atomic<Bool>(false)

  /// The terminal at `fileDescriptor`, which stays the caller's; `nil` if there is none.
  public init?(fileDescriptor: Int32) {
    var found = termios()
    guard tcgetattr(fileDescriptor, &found) == 0 else { return nil }
    descriptor = fileDescriptor
    saved = .allocate(capacity: 1)
    saved.initialize(to: found)
  }

  deinit {
    restore()
    saved.deallocate()
  }

  /// Columns and rows of the terminal at a descriptor; `nil` if there is none, or it doesn't know.
  public static func size(of fileDescriptor: Int32) -> (columns: UInt16, rows: UInt16)? {
    var size = winsize()
    guard ioctl(fileDescriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return nil }
    return (size.ws_col, size.ws_row)
  }

  /// Hands every key to whoever reads. Again after SIGCONT: the shell had the terminal meanwhile.
  /// - Throws: what tcsetattr(3) said: EIO when the process is an orphan in the background.
  public func makeRaw() throws(Errno) {
    var raw = saved.pointee
    raw.c_iflag &= ~tcflag_t(BRKINT | ICRNL | IGNBRK | IGNCR | INLCR | ISTRIP | IXON | PARMRK)
    raw.c_lflag &= ~tcflag_t(ECHO | ECHONL | ICANON | IEXTEN | ISIG)
    raw.c_cflag &= ~tcflag_t(CSIZE | PARENB)
    raw.c_cflag |= tcflag_t(CS8)
    withUnsafeMutableBytes(of: &raw.c_cc) { characters in
      characters[Int(VMIN)] = 1
      characters[Int(VTIME)] = 0
    }
    // Before the change: a signal in between restores what is not yet changed, which does no harm.
    isRaw.store(true, ordering: .sequentiallyConsistent)
    while tcsetattr(descriptor, TCSANOW, &raw) != 0 {
      let error = Errno(rawValue: errno)
      if error == .interrupted { continue }
      isRaw.store(false, ordering: .sequentiallyConsistent)
      throw error
    }
  }

  /// Puts back the settings found, if they were changed. In the background nothing is done: the shell has put back its
  /// own, and touching them would stop the process.
  public func restore() {
    guard isRaw.exchange(false, ordering: .sequentiallyConsistent) else { return }
    let foreground = tcgetpgrp(descriptor)
    if foreground >= 0, foreground != getpgrp() { return }
    while tcsetattr(descriptor, TCSANOW, saved) != 0, errno == EINTR {}
  }
}
