// The first process of a Linux guest that is there for one command (`trivisor run KERNEL --exec COMMAND`).
//
// Its archive is the last of those that the kernel unpacks into its first root, and holds two files: this program, and
// what it is to do, as strings that end with a zero:
//
//     options: t a person sits at the console; b the root is empty but for a busybox
//     the command
//     the environment, NAME=value each
//
// It mounts what programs expect, runs the command by the root's shell, and hands the status on: to the exit-code register
// of Trivisor (docs/guest-interface.md), which ends the machine at once. So what was written must be out before: the
// console is drained, the disks are synchronized.

import CLinuxGuest

@c(linux_main)
func linuxMain() -> Never {
  prepare()
  let order = Order()
  let status = order.map { run($0) } ?? complain("there is no command", 125)
  Linux.call(.ioctl, 1, Linux.drain, 1)
  Linux.call(.sync)
  report(status)
}

/// What there is to do.
struct Order {
  let isInteractive: Bool
  let hasOnlyBusybox: Bool
  let command: UnsafeMutablePointer<CChar>
  /// Where the strings behind the command begin, and where they end.
  let environment: UnsafeMutablePointer<CChar>
  let end: UnsafeMutablePointer<CChar>

  init?() {
    let text = textBuffer()
    let file = Linux.open("/.trivisor/order", 0)
    guard file >= 0 else { return nil }
    var count = 0
    while count < Int(TEXT_CAPACITY) - 1 {
      let read = Linux.call(.read, file, Linux.address(text + count), Int(TEXT_CAPACITY) - 1 - count)
      guard read > 0 else { break }
      count += read
    }
    Linux.call(.close, file)
    // Nobody else has a use for them.
    Linux.call(.unlink, Linux.address("/.trivisor/order"))
    Linux.call(.unlink, Linux.address("/.trivisor/init"))
    Linux.call(.rmdir, Linux.address("/.trivisor"))
    text[count] = 0
    end = text + count
    var position = text
    var options = (terminal: false, busybox: false)
    while position.pointee != 0 {
      if position.pointee == 0x74 { options.terminal = true }
      if position.pointee == 0x62 { options.busybox = true }
      position += 1
    }
    (isInteractive, hasOnlyBusybox) = (options.terminal, options.busybox)
    guard position < end else { return nil }
    command = position + 1
    position = command
    while position.pointee != 0 { position += 1 }
    environment = position < end ? position + 1 : end
  }
}

/// What programs expect to be there. Where it is there already, or can't be had, nothing is lost.
func prepare() {
  for folder: StaticString in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
    Linux.call(.mkdir, Linux.address(folder), 0o755)
  }
  mount("proc", "/proc")
  mount("sysfs", "/sys")
  mount("devtmpfs", "/dev")
  Linux.call(.mkdir, Linux.address("/dev/pts"), 0o755)
  Linux.call(.mkdir, Linux.address("/dev/shm"), 0o1777)
  mount("devpts", "/dev/pts")
  mount("tmpfs", "/dev/shm")
  mount("tmpfs", "/tmp")
  mount("tmpfs", "/run")
  // The loopback interface: socket(AF_INET, SOCK_DGRAM), SIOCSIFFLAGS with IFF_UP and IFF_RUNNING.
  let socket = Linux.call(.socket, 2, 2, 0)
  if socket >= 0 {
    var request = InterfaceFlags()
    request.name.0 = 0x6c
    request.name.1 = 0x6f
    request.flags = 0x41
    withUnsafeMutablePointer(to: &request) { _ = Linux.call(.ioctl, socket, 0x8914, Linux.address($0)) }
    Linux.call(.close, socket)
  }
}

func mount(_ type: StaticString, _ place: StaticString) {
  Linux.call(.mount, Linux.address(type), Linux.address(place), Linux.address(type))
}

/// Runs the command.
/// - Returns: its exit status, or 128 + the signal that killed it.
func run(_ order: Order) -> UInt8 {
  if order.hasOnlyBusybox { installBusybox() }
  let process = Linux.call(.fork)
  if process < 0 { return complain("no process can be made", 125) }
  if process == 0 { become(order) }
  return wait(for: process)
}

func wait(for process: Int) -> UInt8 {
  var status: Int32 = 0
  while true {
    let ended = withUnsafeMutablePointer(to: &status) { Linux.call(.wait4, -1, Linux.address($0)) }
    // Processes whose parents are gone are this one's too.
    guard ended == process else {
      if ended == -10 { return complain("the command's process is lost", 125) }
      continue
    }
    let signal = status & 0x7f
    return UInt8(truncatingIfNeeded: signal == 0 ? status >> 8 : 128 + signal)
  }
}

func installBusybox() {
  for folder: StaticString in ["/bin", "/sbin", "/usr", "/usr/bin", "/usr/sbin", "/root"] {
    Linux.call(.mkdir, Linux.address(folder), 0o755)
  }
  let process = Linux.call(.fork)
  if process == 0 {
    let words = pointerBuffer()
    words[0] = Linux.text("busybox")
    words[1] = Linux.text("--install")
    words[2] = Linux.text("-s")
    words[3] = nil
    words[4] = nil
    Linux.call(.execve, Linux.address("/bin/busybox"), Linux.address(words), Linux.address(words + 4))
    Linux.call(.exit, 1)
  }
  if process > 0 { _ = wait(for: process) }
}

/// The rest of the command's process.
func become(_ order: Order) -> Never {
  takeTerminal(isInteractive: order.isInteractive)
  let words = pointerBuffer()
  var count = 0
  var position = order.environment
  while position < order.end, count < Int(POINTER_CAPACITY) / 2 {
    words[count] = UnsafePointer(position)
    count += 1
    while position.pointee != 0 { position += 1 }
    position += 1
  }
  words[count] = nil
  let arguments = words + count + 1
  if Linux.call(.access, Linux.address("/bin/sh"), 1) == 0 {
    arguments[0] = Linux.text("sh")
    arguments[1] = Linux.text("-c")
    arguments[2] = UnsafePointer(order.command)
    arguments[3] = nil
    let error = Linux.call(.execve, Linux.address("/bin/sh"), Linux.address(arguments), Linux.address(words))
    Linux.call(.exit, Int(complain("/bin/sh can't be run", error == -2 ? 127 : 126)))
  }
  // A root without a shell: words between spaces.
  count = 0
  position = order.command
  while position.pointee != 0, count < 1000 {
    while position.pointee == 0x20 {
      position.pointee = 0
      position += 1
    }
    guard position.pointee != 0 else { break }
    arguments[count] = UnsafePointer(position)
    count += 1
    while position.pointee != 0, position.pointee != 0x20 { position += 1 }
  }
  arguments[count] = nil
  guard let program = arguments[0] else {
    Linux.call(.exit, 0)
    halt()
  }
  let error = Linux.call(.execve, Linux.address(program), Linux.address(arguments), Linux.address(words))
  let status = complain("the root has no shell, and the command can't be run by itself", error == -2 ? 127 : 126)
  Linux.call(.exit, Int(status))
  halt()
}

/// Makes the console the command's terminal, without changes to what it writes; where no person sits there, what it reads
/// is not echoed.
func takeTerminal(isInteractive: Bool) {
  Linux.call(.setsid)
  let text = textBuffer() + Int(TEXT_CAPACITY) - 256
  let active = Linux.open("/sys/class/tty/console/active", 0)
  let count = active >= 0 ? Linux.call(.read, active, Linux.address(text + 5), 200) : 0
  if active >= 0 { Linux.call(.close, active) }
  if count > 1 {
    // "tty0 ttyS0\n": the last one is where /dev/console leads.
    var start = text + 5
    let end = text + 5 + count - 1
    end.pointee = 0
    var position = start
    while position < end {
      if position.pointee == 0x20 { start = position + 1 }
      position += 1
    }
    for (offset, byte) in [0x2f, 0x64, 0x65, 0x76, 0x2f].enumerated() { start[offset - 5] = CChar(byte) }
    let terminal = Linux.call(.open, Linux.address(start - 5), 2)
    if terminal >= 0 {
      Linux.call(.ioctl, terminal, 0x540e, 0)  // TIOCSCTTY
      for descriptor in 0..<3 { Linux.call(.dup2, terminal, descriptor) }
      if terminal > 2 { Linux.call(.close, terminal) }
    }
  }
  var settings = TerminalSettings()
  // TCGETS, and TCSETS below.
  let hasSettings = withUnsafeMutablePointer(to: &settings) { Linux.call(.ioctl, 0, 0x5401, Linux.address($0)) }
  guard hasSettings == 0 else { return }
  settings.outputFlags &= ~1  // OPOST
  if !isInteractive {
    settings.localFlags &= ~0x78  // ECHO, ECHOE, ECHOK, ECHONL
    settings.inputFlags &= ~0x100  // ICRNL
  }
  withUnsafeMutablePointer(to: &settings) { _ = Linux.call(.ioctl, 0, 0x5402, Linux.address($0)) }
}

/// Ends the machine with a status.
func report(_ status: UInt8) -> Never {
  let register: UInt16 = 0x5f0
  if Linux.call(.ioperm, Int(register), 4, 1) == 0 {
    if readPort32(register) == 0x5856_5254 { writePort8(register, status) }
  } else {
    let port = Linux.open("/dev/port", 2)
    if port >= 0 {
      var byte = status
      withUnsafeMutablePointer(to: &byte) { _ = Linux.call(.pwrite64, port, Linux.address($0), 1, Int(register)) }
    }
  }
  // Still here: then nobody takes the status, and only success may end like success.
  if status != 0 { _ = complain("the command's status could not be handed on", 125) }
  Linux.call(.ioctl, 1, Linux.drain, 1)
  // LINUX_REBOOT_CMD_POWER_OFF or _RESTART.
  Linux.call(.reboot, 0xfee1_dead, 0x2812_1969, status == 0 ? 0x4321_fedc : 0x0123_4567)
  halt()
}

func complain(_ message: StaticString, _ status: UInt8) -> UInt8 {
  for part: StaticString in ["trivisor-init: ", message, "\n"] {
    Linux.call(.write, 2, Linux.address(part), part.utf8CodeUnitCount)
  }
  return status
}

func halt() -> Never {
  while true { Linux.call(.pause) }
}

/// Linux' system calls.
enum Linux {
  /// Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
  enum Number: Int {
    case read = 0, write = 1, open = 2, close = 3, ioctl = 16, pwrite64 = 18, access = 21, dup2 = 33, pause = 34
    case socket = 41, fork = 57, execve = 59, exit = 60, wait4 = 61, mkdir = 83, rmdir = 84, unlink = 87, setsid = 112
    case sync = 162, mount = 165, reboot = 169, ioperm = 173
  }

  /// TCSBRK, with an argument: waits until all is written.
  static let drain = 0x5409

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
}
