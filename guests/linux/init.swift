// The first process of a Linux guest that is there for one command (`trivisor run KERNEL --exec TEXT`, or `-- COMMAND …`).
//
// Its archive is the last of those that the kernel unpacks into its first root, and holds this program and a device file for
// the second serial port, on which the host speaks (channel.swift). Over that comes what there is to do (order.swift); the
// command's input, output and status go there, too (session.swift), and those of further commands that the host begins
// meanwhile (sessions.swift). The kernel's console, on the first port, gets only what goes wrong here.
//
// When the status has gone out, the host ends the machine. So what was written must be out before: the disks are
// synchronized first.

import CLinuxGuest

@c(linux_main)
func linuxMain() -> Never {
  guard var channel = Channel() else {
    complain("the kernel has no driver for the second serial port, ttyS1 at 0x2f8 (CONFIG_SERIAL_8250, 8250.nr_uarts)")
    giveUp()
  }
  // Nobody else has a use for them.
  Linux.call(.unlink, Linux.address("/.trivisor/channel"))
  Linux.call(.unlink, Linux.address("/.trivisor/init"))
  var assembly = OrderAssembly()
  guard receiveOrder(&channel, &assembly) else { giveUp() }
  let credit = assembly.credit
  guard let order = assembly.order() else {
    complain("the order makes no sense")
    giveUp()
  }
  var setup = Setup()
  setup.takeFirst(order.steps, &channel)
  Linux.call(.rmdir, Linux.address("/.trivisor"))
  prepare(hidesRun: setup.hasLiveRoot)
  setup.takeRest(order.steps, &channel)
  // Writing into a pipe that nobody reads is an error here, and no death; the end of a process is something to wait for.
  blockSignals(.childAndPipe)
  let signals = makeSignalDescriptor()
  if order.installsBusybox { installBusybox() }
  guard let command = Command(order, CommandPlace(order.steps)), signals >= 0 else { giveUp() }
  var sessions = Sessions(channel, Session(0, command, credit), signals: signals)
  let status = sessions.run()
  if setup.isFull {
    sessions.say(
      """
      trivisor-init: the memory for what is written to the root is full: give more with --root-size, and --memory\n
      """)
  }
  Linux.call(.sync)
  sessions.report(status)
}

/// Opens the channel and waits for the whole order.
func receiveOrder(_ channel: inout Channel, _ assembly: inout OrderAssembly) -> Bool {
  channel.sendHello(window: Int(INPUT_CAPACITY))
  while true {
    channel.flush()
    var descriptor = PollDescriptor(
      descriptor: Int32(channel.descriptor), events: Linux.Poll.input | (channel.isFlushed ? 0 : Linux.Poll.output),
      found: 0)
    withUnsafeMutablePointer(to: &descriptor) { _ = Linux.call(.poll, Linux.address($0), 1, -1) }
    channel.receive()
    while channel.hasReserve, let frame = channel.nextFrame() {
      switch assembly.take(frame, &channel) {
      case .incomplete: continue
      case .complete: return true
      case .nonsense: return false
      }
    }
  }
}

/// What programs expect to be there. Where it is there already, or can't be had, nothing is lost.
/// - Parameter hidesRun: what /run holds is another system's.
func prepare(hidesRun: Bool) {
  Linux.call(.umask, 0o022)
  for folder: StaticString in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
    Linux.call(.mkdir, Linux.address(folder), 0o755)
  }
  mount("proc", "/proc")
  mount("sysfs", "/sys")
  mount("devtmpfs", "/dev")
  for folder: StaticString in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
    Linux.call(.mkdir, Linux.address(folder), 0o755)
  }
  mount("devpts", "/dev/pts", options: "gid=5,mode=620,ptmxmode=666")
  mount("tmpfs", "/dev/shm", options: "mode=1777")
  mount("mqueue", "/dev/mqueue")
  // Each is there or not, as the kernel has it: then its folder is not there either.
  mount("debugfs", "/sys/kernel/debug")
  mount("tracefs", "/sys/kernel/tracing")
  mount("securityfs", "/sys/kernel/security")
  mount("bpf", "/sys/fs/bpf")
  mount("cgroup2", "/sys/fs/cgroup")
  // What the root has there is the user's and stays to be seen.
  if isEmpty("/tmp") { mount("tmpfs", "/tmp", options: "mode=1777") }
  if hidesRun || isEmpty("/run") { mount("tmpfs", "/run", options: "mode=755") }
  link("/proc/self/fd", "/dev/fd")
  link("/proc/self/fd/0", "/dev/stdin")
  link("/proc/self/fd/1", "/dev/stdout")
  link("/proc/self/fd/2", "/dev/stderr")
  // The loopback interface: socket(AF_INET, SOCK_DGRAM), IFF_UP and IFF_RUNNING.
  let socket = Linux.call(.socket, 2, 2, 0)
  if socket >= 0 {
    var request = InterfaceFlags()
    request.name.0 = 0x6c
    request.name.1 = 0x6f
    request.flags = 0x41
    withUnsafeMutablePointer(to: &request) {
      _ = Linux.call(.ioctl, socket, Linux.Control.setInterfaceFlags, Linux.address($0))
    }
    Linux.call(.close, socket)
  }
}

func mount(_ type: StaticString, _ place: StaticString, options: StaticString = "") {
  Linux.call(.mount, Linux.address(type), Linux.address(place), Linux.address(type), 0, Linux.address(options))
}

func link(_ target: StaticString, _ place: StaticString) {
  Linux.call(.symlink, Linux.address(target), Linux.address(place))
}

/// Whether a folder holds nothing.
func isEmpty(_ folder: StaticString) -> Bool {
  let descriptor = Linux.open(folder, Linux.Open.directory | Linux.Open.closeOnExec)
  guard descriptor >= 0 else { return true }
  defer { Linux.call(.close, descriptor) }
  let buffer = scratchBuffer()
  while true {
    let count = Linux.call(.getdents64, descriptor, Linux.address(buffer), Int(SCRATCH_CAPACITY))
    guard count > 0 else { return true }
    // struct linux_dirent64: the entry's length at 16, its name from 19 on.
    var position = 0
    while position + 19 < count {
      let name = buffer + position + 19
      let isItselfOrParent = name[0] == 0x2e && (name[1] == 0 || name[1] == 0x2e && name[2] == 0)
      if !isItselfOrParent { return false }
      position += max(Int(buffer[position + 16]) | Int(buffer[position + 17]) << 8, 1)
    }
  }
}

func installBusybox() {
  for folder: StaticString in ["/bin", "/sbin", "/usr", "/usr/bin", "/usr/sbin", "/root"] {
    Linux.call(.mkdir, Linux.address(folder), 0o755)
  }
  let process = Linux.call(.fork)
  if process == 0 {
    let words = pointerBuffer() + Int(POINTER_CAPACITY) - 5
    words[0] = Linux.text("busybox")
    words[1] = Linux.text("--install")
    words[2] = Linux.text("-s")
    words[3] = nil
    words[4] = nil
    Linux.call(.execve, Linux.address("/bin/busybox"), Linux.address(words), Linux.address(words + 4))
    Linux.call(.exit, 1)
  }
  if process > 0 {
    while Linux.call(.wait4, process) == Linux.Failure.interrupted {}
  }
}

/// Sets of signals, a bit each from signal 1 on.
enum SignalSet {
  case none
  /// SIGCHLD (17) and SIGPIPE (13).
  case childAndPipe
  /// SIGCHLD.
  case child

  var bits: UInt64 {
    switch self {
    case .none: 0
    case .childAndPipe: 1 << 16 | 1 << 12
    case .child: 1 << 16
    }
  }
}

/// Blocks these signals and no others.
func blockSignals(_ set: SignalSet) {
  var bits = set.bits
  withUnsafeMutablePointer(to: &bits) { _ = Linux.call(.rt_sigprocmask, 2, Linux.address($0), 0, 8) }  // SIG_SETMASK
}

/// A descriptor that is readable when a child has ended.
func makeSignalDescriptor() -> Int {
  var bits = SignalSet.child.bits
  return withUnsafeMutablePointer(to: &bits) {
    Linux.call(.signalfd4, -1, Linux.address($0), 8, Linux.Open.nonBlocking | Linux.Open.closeOnExec)
  }
}
