import Glibc
import Synchronization
import TrivisorCLinux
import TrivisorCWorker
import TrivisorVMM

/// The process of a worker: this program once more, with one end of a socket as descriptor 3.
final class WorkerProcess: Sendable {
  /// Whether this program can be its own worker.
  static let canBeMade = cworker_is_in_program() != 0

  private static let socketInWorker: Int32 = 3

  let socket: Int32
  private let process: pid_t
  private let isReaped = Mutex(false)

  /// Its number, for whoever wants to look at it.
  var identifier: pid_t { process }

  /// Makes it. It ends with the calling thread, if not before.
  init() throws(Errno) {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    defer { close(ends[1]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // The socket first: it may have one of the numbers that are given next.
    let spare = fcntl(ends[1], F_DUPFD_CLOEXEC, 10)
    defer { close(spare) }
    guard spare >= 0 else {
      let error = Errno(rawValue: errno)
      close(ends[0])
      throw error
    }
    if access("/dev/null", R_OK | W_OK) == 0 {
      posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
      posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
    }
    posix_spawn_file_actions_adddup2(&actions, spare, Self.socketInWorker)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var words: [UnsafeMutablePointer<CChar>?] = [strdup("trivisor-worker"), nil]
    var environment: [UnsafeMutablePointer<CChar>?] = []
    var place = clinux_environment()
    while let variable = place?.pointee {
      environment.append(strdup(variable))
      place = place?.successor()
    }
    environment += [strdup("TRIVISOR_WORKER=\(Self.socketInWorker)"), nil]
    defer { for pointer in words + environment { free(pointer) } }
    var process: pid_t = 0
    let error = posix_spawn(&process, clinux_own_executable(), &actions, &attributes, &words, &environment)
    guard error == 0 else {
      close(ends[0])
      throw Errno(rawValue: error)
    }
    self.process = process
    socket = ends[0]
  }

  deinit { close(socket) }

  /// Ends it, if it has not ended.
  func kill() {
    isReaped.withLock { isReaped in
      if !isReaped { _ = Glibc.kill(process, SIGKILL) }
    }
  }

  /// Waits for its end, and kills it after so long.
  func reap(patience nanoseconds: UInt64) -> Outcome.WorkerEnd {
    let deadline = monotonicNanoseconds() &+ nanoseconds
    var status: Int32 = 0
    while true {
      let found = isReaped.withLock { isReaped in
        let found = waitpid(process, &status, WNOHANG)
        if found != 0, !(found < 0 && errno == EINTR) { isReaped = true }
        return found
      }
      if found == process { break }
      if found < 0, errno != EINTR { return .unknown }
      if monotonicNanoseconds() >= deadline { kill() }
      usleep(1000)
    }
    return clinux_exited(status) != 0
      ? .exited(status: clinux_exit_status(status)) : .killed(signal: clinux_ending_signal(status))
  }
}
