import CLinuxGuest

/// Linux' system calls.
enum Linux {
  /// Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
  enum Number: Int {
    case read = 0, write = 1, open = 2, close = 3, poll = 7, rt_sigprocmask = 14, ioctl = 16, dup2 = 33, pause = 34
    case chdir = 80, umask = 95, setuid = 105, setgid = 106, setgroups = 116, fstatfs = 138, setrlimit = 160
    case chroot = 161, sethostname = 170, finit_module = 313, nanosleep = 35, readlink = 89
    case socket = 41, fork = 57, execve = 59, exit = 60, wait4 = 61, kill = 62, fcntl = 72, mkdir = 83, rmdir = 84,
      unlink = 87
    case symlink = 88, setsid = 112, sync = 162, mount = 165, reboot = 169, getdents64 = 217, clock_gettime = 228
    case signalfd4 = 289, pipe2 = 293
  }

  /// include/uapi/asm-generic/errno-base.h and errno.h, negative as system calls return them.
  enum Failure {
    static let notPermitted = -1
    static let noEntry = -2
    static let interrupted = -4
    static let badFormat = -8
    static let tryAgain = -11
    static let exists = -17
    static let noDevice = -19
    static let invalid = -22
  }

  /// include/uapi/asm-generic/fcntl.h.
  enum Open {
    static let readOnly = 0
    static let writeOnly = 0x1
    static let readWrite = 0x2
    static let create = 0x40
    static let noControllingTerminal = 0x100
    static let nonBlocking = 0x800
    static let directory = 0x1_0000
    static let closeOnExec = 0x8_0000
  }

  /// include/uapi/asm-generic/ioctls.h; include/uapi/linux/sockios.h.
  enum Control {
    static let setTerminalSettings = 0x5402  // TCSETS
    static let makeExclusive = 0x540c  // TIOCEXCL
    static let makeControllingTerminal = 0x540e  // TIOCSCTTY
    static let setTerminalSize = 0x5414  // TIOCSWINSZ
    static let countReadable = 0x541b  // FIONREAD
    static let setPseudoTerminalLock = 0x4004_5431  // TIOCSPTLCK
    static let getPseudoTerminalNumber = 0x8004_5430  // TIOCGPTN
    static let setInterfaceFlags = 0x8914  // SIOCSIFFLAGS
  }

  /// Flags of mount(2), include/uapi/linux/mount.h.
  enum Mount {
    static let readOnly = 1
    static let noSetUserID = 2
    static let noDevices = 4
    static let bind = 4096
    static let move = 8192
  }

  /// include/uapi/asm-generic/poll.h.
  enum Poll {
    static let input: Int16 = 0x1
    static let output: Int16 = 0x4
  }

  /// - Returns: the result, or a negative error number.
  @discardableResult
  static func call(
    _ number: Number, _ first: Int = 0, _ second: Int = 0, _ third: Int = 0, _ fourth: Int = 0, _ fifth: Int = 0
  ) -> Int {
    linux_system_call(number.rawValue, first, second, third, fourth, fifth)
  }

  static func open(_ path: StaticString, _ flags: Int) -> Int { call(.open, address(path), flags) }

  static func address(_ text: StaticString) -> Int { Int(bitPattern: text.utf8Start) }
  static func address(_ pointer: UnsafeRawPointer) -> Int { Int(bitPattern: pointer) }
  static func text(_ text: StaticString) -> UnsafePointer<CChar>? {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// Milliseconds of CLOCK_MONOTONIC.
  static var milliseconds: Int {
    var time = TimeSpecification()
    withUnsafeMutablePointer(to: &time) { _ = call(.clock_gettime, 1, address($0)) }
    return Int(time.seconds) * 1000 + Int(time.nanoseconds) / 1_000_000
  }
}

/// Says something on standard error: the console, or in the command's process what stands for it.
func complain(_ message: StaticString, _ detail: UnsafePointer<CChar>? = nil) {
  say("trivisor-init: ")
  say(message)
  if let detail {
    say(": ")
    var count = 0
    while detail[count] != 0 { count += 1 }
    Linux.call(.write, 2, Linux.address(detail), count)
  }
  say("\n")
}

private func say(_ text: StaticString) {
  Linux.call(.write, 2, Linux.address(text), text.utf8CodeUnitCount)
}

/// Switches the machine off: without a status that is no success.
func giveUp() -> Never {
  Linux.call(.sync)
  // LINUX_REBOOT_CMD_POWER_OFF; where it can't be, _RESTART.
  Linux.call(.reboot, 0xfee1_dead, 0x2812_1969, 0x4321_fedc)
  Linux.call(.reboot, 0xfee1_dead, 0x2812_1969, 0x0123_4567)
  halt()
}

func halt() -> Never {
  while true { Linux.call(.pause) }
}
