// A guest in a process of its own: this same program, as `trivisor run`.
//
// A crash of the monitor, a guest that eats memory, a kill: none of it reaches whoever wants the verdict. And nothing may
// be left behind, whatever happens to *that* process:
//
//     standard input    /dev/null: a guest has nothing to read, and its process no terminal to touch
//     standard output   a pipe: the console
//     standard error    a pipe: what the monitor says
//     descriptor 3      a memory file for the result: no file in any folder, and no reader that must keep up
//     --end-with-parent the kernel kills it when the thread that made it is gone, by whatever cause, SIGKILL among them

import TrivisorCLinux
import FoundationEssentials
import Glibc
import SystemPackage
import TrivisorVMM

/// One running `trivisor run`.
final class GuestProcess {
  /// What is kept of standard error.
  private static let errorLimit = 64 << 10
  /// No result is longer.
  private static let resultLimit = 16 << 20
  /// The result's descriptor in the process.
  private static let resultDescriptor: Int32 = 3

  let job: any GuestJob
  let console: FileDescriptor
  let errors: FileDescriptor
  /// When it began, on the host's monotonic clock.
  let began: UInt64
  private let result: FileDescriptor
  private let process: pid_t
  private var errorBytes: [UInt8] = []
  private(set) var consoleIsOpen = true
  private(set) var errorsAreOpen = true
  private(set) var reason: GuestEnding.Reason?
  /// When SIGKILL follows, if nothing else ends it.
  private(set) var killTime: UInt64?

  /// - Throws: `ProcessFailure` when the host gives no process or no descriptors.
  init(_ job: any GuestJob) throws(ProcessFailure) {
    self.job = job
    do {
      let console = try Self.makePipe()
      let errors = try Self.makePipe()
      let raw = memfd_create("trivisor-result", UInt32(CLINUX_MFD_CLOEXEC))
      guard raw >= 0 else { throw Errno(rawValue: errno) }
      result = FileDescriptor(rawValue: raw)
      self.console = console.readEnd
      self.errors = errors.readEnd
      defer {
        try? console.writeEnd.close()
        try? errors.writeEnd.close()
      }
      began = monotonicNanoseconds()
      process = try Self.spawn(
        job.arguments, output: console.writeEnd.rawValue, errors: errors.writeEnd.rawValue, result: raw)
    } catch let error as Errno {
      let remedy = HostRemedy.of(error)
      throw ProcessFailure(
        call: "posix_spawn", reason: remedy.isEmpty ? error.description : "\(error); \(remedy)")
    } catch {
      throw ProcessFailure(call: "posix_spawn", reason: String(describing: error))
    }
    let (limit, overflow) = began.addingReportingOverflow(job.hardLimit ?? .max)
    killTime = job.hardLimit == nil || overflow ? nil : limit
  }

  deinit {
    for descriptor in [console, errors, result] { try? descriptor.close() }
  }

  /// Asks it to end: SIGTERM now, SIGKILL after `grace` nanoseconds.
  func end(_ reason: GuestEnding.Reason, grace: UInt64 = 2_000_000_000) {
    guard self.reason == nil else { return }
    self.reason = reason
    kill(process, SIGTERM)
    killTime = min(killTime ?? .max, monotonicNanoseconds() &+ grace)
  }

  /// Kills it if its time is over.
  func killIfOverdue(_ now: UInt64) {
    guard let killTime, now >= killTime else { return }
    reason = reason ?? .overdue
    kill(process, SIGKILL)
    self.killTime = nil
  }

  /// Takes what the guest wrote since the last time, unless it writes without end: then a megabyte, so that others have
  /// their turn.
  func readConsole() {
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    for _ in 0..<16 where consoleIsOpen {
      let count = read(console.rawValue, &buffer, buffer.count)
      if count > 0 {
        let time = monotonicNanoseconds() - began
        let goesOn = buffer.withUnsafeBytes { job.receive(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: time) }
        if !goesOn { end(.enough) }
      } else if count == 0 {
        consoleIsOpen = false
      } else if errno != EINTR {
        return
      }
    }
  }

  /// Takes what the monitor said since the last time.
  func readErrors() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while errorsAreOpen {
      let count = read(errors.rawValue, &buffer, buffer.count)
      if count > 0 {
        errorBytes += buffer[..<min(count, max(Self.errorLimit - errorBytes.count, 0))]
      } else if count == 0 {
        errorsAreOpen = false
      } else if errno != EINTR {
        return
      }
    }
  }

  /// How it ended, if it has.
  func reap() -> GuestEnding? {
    var status: Int32 = 0
    var usage = rusage()
    guard wait4(process, &status, WNOHANG, &usage) == process else { return nil }
    let wallTime = monotonicNanoseconds() - began
    readConsole()
    readErrors()
    return GuestEnding(
      status: clinux_exited(status) != 0
        ? .exited(clinux_exit_status(status)) : .killed(signal: clinux_ending_signal(status)),
      reason: reason, record: readResult(), errors: String(decoding: errorBytes, as: UTF8.self), wallTime: wallTime,
      userTime: Self.nanoseconds(usage.ru_utime), systemTime: Self.nanoseconds(usage.ru_stime))
  }

  private func readResult() -> RunRecord? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < Self.resultLimit {
      let count = pread(result.rawValue, &buffer, buffer.count, off_t(bytes.count))
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return bytes.isEmpty ? nil : try? JSONDecoder().decode(RunRecord.self, from: Data(bytes))
  }

  /// Closed in other processes; the end that is read here does not block.
  private static func makePipe() throws(Errno) -> (readEnd: FileDescriptor, writeEnd: FileDescriptor) {
    var ends: [Int32] = [-1, -1]
    guard pipe2(&ends, O_CLOEXEC) == 0 else { throw Errno(rawValue: errno) }
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
  }

  private static func spawn(
    _ arguments: [String], output: Int32, errors: Int32, result: Int32
  ) throws(Errno) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // In a bare chroot there is no such file; what is closed is found empty, too.
    if access("/dev/null", R_OK) == 0 {
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    } else {
      posix_spawn_file_actions_addclose(&actions, 0)
    }
    posix_spawn_file_actions_adddup2(&actions, output, 1)
    posix_spawn_file_actions_adddup2(&actions, errors, 2)
    // Also if it has that number already: then it only stays open.
    posix_spawn_file_actions_adddup2(&actions, result, resultDescriptor)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var pipeSignal = sigset_t()
    sigemptyset(&pipeSignal)
    sigaddset(&pipeSignal, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &pipeSignal)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    let words =
      ["trivisor", "run", "--json", "/dev/fd/\(resultDescriptor)", "--end-with-parent", "\(getpid())"] + arguments
    var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    var process: pid_t = 0
    let error = posix_spawn(&process, clinux_own_executable(), &actions, &attributes, pointers, clinux_environment())
    guard error == 0 else { throw Errno(rawValue: error) }
    return process
  }

  private static func nanoseconds(_ time: timeval) -> UInt64 {
    UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_usec) * 1000
  }
}
