import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// Runs guests, some at a time, on the calling thread; ends them all when a signal ends this process.
///
/// It must be called on the process's first thread: the guests' processes live as long as the thread that makes them.
public final class GuestProcessPool {
  /// How many at a time.
  public let jobs: Int
  /// How often `whenTime` is called, in milliseconds; negative for never.
  public var tickMilliseconds: Int32 = -1
  /// Called every so often.
  public var whenTime: () -> Void = {}

  private var running: [GuestProcess] = []

  /// - Parameter jobs: how many guests run at a time; at least one.
  public init(jobs: Int) { self.jobs = max(jobs, 1) }

  /// Runs what `next` gives until it gives nothing and all have ended; `next` is asked again after each end.
  /// - Returns: the signal that ended it early, if one did.
  /// - Throws: `ProcessFailure` when the host gives no process; those that run are ended.
  public func run(_ next: () -> (any GuestJob)?) throws(ProcessFailure) -> Int32? {
    var blocked = sigset_t()
    var before = sigset_t()
    sigemptyset(&blocked)
    for signal in EndingSignals.all + [SIGCHLD] { sigaddset(&blocked, signal) }
    pthread_sigmask(SIG_BLOCK, &blocked, &before)
    let signals = signalfd(-1, &blocked, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
    defer {
      close(signals)
      pthread_sigmask(SIG_SETMASK, &before, nil)
    }
    var failure: ProcessFailure?
    var interruption: Int32?
    while true {
      while interruption == nil, failure == nil, running.count < jobs, let job = next() {
        job.begin()
        do throws(ProcessFailure) { running.append(try GuestProcess(job)) } catch { failure = error }
      }
      if failure != nil { for process in running { process.end(.interrupted) } }
      if running.isEmpty { break }
      wait(signals)
      while let signal = Self.take(signals) {
        guard signal != SIGCHLD else { continue }
        // The second one does not wait.
        for process in running { process.end(.interrupted) }
        if interruption != nil { for process in running { process.killIfOverdue(.max) } }
        interruption = interruption ?? signal
      }
      serve()
    }
    if let failure { throw failure }
    return interruption
  }

  /// Waits for output, a signal, or the next moment at which something is due.
  private func wait(_ signals: Int32) {
    var descriptors = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
    for process in running {
      // Negative descriptors are skipped by poll.
      descriptors.append(
        pollfd(fd: process.consoleIsOpen ? process.console.rawValue : -1, events: Int16(POLLIN), revents: 0))
      descriptors.append(
        pollfd(fd: process.errorsAreOpen ? process.errors.rawValue : -1, events: Int16(POLLIN), revents: 0))
    }
    var milliseconds = tickMilliseconds
    let now = monotonicNanoseconds()
    for killTime in running.compactMap(\.killTime) {
      let remaining = killTime > now ? Int32(min((killTime - now) / 1_000_000 + 1, 60_000)) : 0
      milliseconds = milliseconds < 0 ? remaining : min(milliseconds, remaining)
    }
    poll(&descriptors, UInt(descriptors.count), milliseconds)
  }

  private func serve() {
    let now = monotonicNanoseconds()
    var remaining: [GuestProcess] = []
    for process in running {
      process.readConsole()
      process.readErrors()
      process.killIfOverdue(now)
      if let ending = process.reap() {
        process.job.end(ending)
      } else {
        remaining.append(process)
      }
    }
    running = remaining
    whenTime()
  }

  private static func take(_ descriptor: Int32) -> Int32? {
    var information = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    return read(descriptor, &information, size) == size ? Int32(information.ssi_signo) : nil
  }
}
