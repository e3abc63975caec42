import CLinuxGuest

/// The command's process, and this side of what is its standard input and output.
struct Command {
  let process: Int
  /// Negative when closed. With a terminal, `input` and `output` are its other side, and there is no `error`.
  var input: Int
  var output: Int
  var error: Int
  let hasTerminal: Bool

  /// Starts it.
  init?(_ order: Order, _ place: CommandPlace) {
    hasTerminal = order.hasTerminal
    var ends = (input: PipeEnds(), output: PipeEnds(), error: PipeEnds())
    var terminal = -1
    if hasTerminal {
      terminal = Self.makePseudoTerminal(order.size)
      guard terminal >= 0 else {
        complain("there are no pseudo-terminals")
        return nil
      }
    } else {
      guard ends.input.make(), ends.output.make(), ends.error.make() else {
        complain("no pipe can be made")
        return nil
      }
    }
    process = Linux.call(.fork)
    if process == 0 {
      Linux.call(.setsid)
      if hasTerminal {
        Self.takePseudoTerminal(terminal)
      } else {
        Linux.call(.dup2, Int(ends.input.readEnd), 0)
        Linux.call(.dup2, Int(ends.output.writeEnd), 1)
        Linux.call(.dup2, Int(ends.error.writeEnd), 2)
      }
      become(order, place)
    }
    guard process > 0 else {
      complain("no process can be made")
      return nil
    }
    guard !hasTerminal else {
      (input, output, error) = (terminal, terminal, -1)
      return
    }
    Linux.call(.close, Int(ends.input.readEnd))
    Linux.call(.close, Int(ends.output.writeEnd))
    Linux.call(.close, Int(ends.error.writeEnd))
    (input, output, error) = (Int(ends.input.writeEnd), Int(ends.output.readEnd), Int(ends.error.readEnd))
  }

  /// The terminal's other side, not blocking.
  private static func makePseudoTerminal(_ size: TerminalSize) -> Int {
    let flags =
      Linux.Open.readWrite | Linux.Open.noControllingTerminal | Linux.Open.nonBlocking | Linux.Open.closeOnExec
    var terminal = Linux.open("/dev/ptmx", flags)
    if terminal < 0 { terminal = Linux.open("/dev/pts/ptmx", flags) }
    guard terminal >= 0 else { return -1 }
    var unlocked: Int32 = 0
    withUnsafeMutablePointer(to: &unlocked) {
      _ = Linux.call(.ioctl, terminal, Linux.Control.setPseudoTerminalLock, Linux.address($0))
    }
    var size = size
    withUnsafeMutablePointer(to: &size) {
      _ = Linux.call(.ioctl, terminal, Linux.Control.setTerminalSize, Linux.address($0))
    }
    return terminal
  }

  /// Makes it this process's controlling terminal and standard input and output.
  private static func takePseudoTerminal(_ terminal: Int) {
    var number: UInt32 = 0
    withUnsafeMutablePointer(to: &number) {
      _ = Linux.call(.ioctl, terminal, Linux.Control.getPseudoTerminalNumber, Linux.address($0))
    }
    let path = scratchBuffer()
    let folder: StaticString = "/dev/pts/"
    var count = 0
    while count < folder.utf8CodeUnitCount {
      path[count] = folder.utf8Start[count]
      count += 1
    }
    var divisor: UInt32 = 1
    while number / divisor >= 10 { divisor *= 10 }
    while divisor > 0 {
      path[count] = 0x30 + UInt8(truncatingIfNeeded: number / divisor % 10)
      count += 1
      divisor /= 10
    }
    path[count] = 0
    let side = Linux.call(.open, Linux.address(path), Linux.Open.readWrite)
    guard side >= 0 else {
      complain("the terminal can't be opened")
      return
    }
    Linux.call(.ioctl, side, Linux.Control.makeControllingTerminal)
    for descriptor in 0..<3 { Linux.call(.dup2, side, descriptor) }
    if side > 2 { Linux.call(.close, side) }
  }

  /// This process waits for all of them at once, and in none.
  func makeNonBlocking() {
    let setFlags = 4  // F_SETFL
    if input >= 0 { Linux.call(.fcntl, input, setFlags, Linux.Open.nonBlocking) }
    if output >= 0 { Linux.call(.fcntl, output, setFlags, Linux.Open.nonBlocking) }
    if error >= 0 { Linux.call(.fcntl, error, setFlags, Linux.Open.nonBlocking) }
  }

  /// Gives the terminal another size, of which its programs hear.
  func resize(columns: UInt16, rows: UInt16) {
    guard hasTerminal, output >= 0 else { return }
    var size = TerminalSize()
    size.columns = columns
    size.rows = rows
    withUnsafeMutablePointer(to: &size) {
      _ = Linux.call(.ioctl, output, Linux.Control.setTerminalSize, Linux.address($0))
    }
  }

  /// Sends a signal to the command and to what it started, as far as that is in its process group.
  func signal(_ number: UInt8) {
    Linux.call(.kill, -process, Int(number))
  }

  /// Nobody takes what it says: its terminal hangs up, its pipes break.
  mutating func hangUp() {
    closeOutput()
    if error >= 0 { Linux.call(.close, error) }
    error = -1
    signal(Self.hangUpSignal)
  }

  /// SIGHUP.
  private static let hangUpSignal: UInt8 = 1

  /// Nothing more comes from its standard output, or from its terminal.
  mutating func closeOutput() {
    guard output >= 0 else { return }
    Linux.call(.close, output)
    output = -1
    if hasTerminal { input = -1 }
  }

  /// Lets go of everything when it has ended.
  mutating func close() {
    closeOutput()
    if input >= 0 { Linux.call(.close, input) }
    if error >= 0 { Linux.call(.close, error) }
    (input, error) = (-1, -1)
  }

  /// The input is over.
  mutating func closeInput() {
    guard input >= 0 else { return }
    // A terminal's end stays open for its output; a reader of lines takes this byte for the end.
    if hasTerminal {
      var end: UInt8 = 4
      withUnsafeMutablePointer(to: &end) { _ = Linux.call(.write, input, Linux.address($0), 1) }
    } else {
      Linux.call(.close, input)
    }
    input = -1
  }
}

/// A pipe.
private struct PipeEnds {
  var readEnd: Int32 = -1
  var writeEnd: Int32 = -1

  /// Both ends are closed in other programs.
  mutating func make() -> Bool {
    let made = withUnsafeMutablePointer(to: &self) { Linux.call(.pipe2, Linux.address($0), Linux.Open.closeOnExec) }
    return made == 0
  }
}

/// The rest of the command's process.
private func become(_ order: Order, _ place: CommandPlace) -> Never {
  blockSignals(.none)
  guard place.enter() else { leave(Linux.Failure.notPermitted) }
  var words = order.words
  if order.isForShell {
    // sh -c -- TEXT: a text may begin with a hyphen.
    words[-3] = Linux.text("sh")
    words[-2] = Linux.text("-c")
    words[-1] = Linux.text("--")
    words -= 3
    let failure = Linux.call(
      .execve, Linux.address("/bin/sh"), Linux.address(words), Linux.address(order.environment))
    if failure == Linux.Failure.noEntry {
      complain("the root has no shell, /bin/sh: give a program and its arguments behind --")
    } else {
      complain("/bin/sh can't be run")
    }
    leave(failure)
  }
  guard let program = words[0] else { leave(Linux.Failure.noEntry) }
  let failure = execute(program, words, order)
  complain(failure == Linux.Failure.noEntry ? "there is no such program" : "the program can't be run", program)
  leave(failure)
}

private func leave(_ failure: Int) -> Never {
  Linux.call(.exit, failure == Linux.Failure.noEntry ? 127 : 126)
  halt()
}

/// As execvp(3): a name without a slash is looked for in the folders of PATH; a file that is no program is a script.
private func execute(
  _ program: UnsafePointer<CChar>, _ words: UnsafeMutablePointer<UnsafePointer<CChar>?>, _ order: Order
) -> Int {
  var count = 0
  var hasSlash = false
  while program[count] != 0 {
    if program[count] == 0x2f { hasSlash = true }
    count += 1
  }
  guard count > 0 else { return Linux.Failure.noEntry }
  if hasSlash { return execute(at: program, words, order) }
  guard var position = order.value("PATH=") else { return Linux.Failure.noEntry }
  var result = Linux.Failure.noEntry
  let path = UnsafeMutableRawPointer(scratchBuffer()).assumingMemoryBound(to: CChar.self)
  while true {
    var length = 0
    while position[length] != 0, position[length] != 0x3a { length += 1 }
    if length + 1 + count < Int(SCRATCH_CAPACITY) {
      for index in 0..<length { path[index] = position[index] }
      // An empty folder is the current one.
      var end = length
      if length > 0 {
        path[end] = 0x2f
        end += 1
      }
      for index in 0...count { path[end + index] = program[index] }
      let failure = execute(at: path, words, order)
      // What is there and can't be run says more than what is not there.
      if failure != Linux.Failure.noEntry, failure != notDirectory { result = failure }
    }
    if position[length] == 0 { return result }
    position += length + 1
  }
}

/// ENOTDIR.
let notDirectory = -20

private func execute(
  at path: UnsafePointer<CChar>, _ words: UnsafeMutablePointer<UnsafePointer<CChar>?>, _ order: Order
) -> Int {
  let failure = Linux.call(.execve, Linux.address(path), Linux.address(words), Linux.address(order.environment))
  guard failure == Linux.Failure.badFormat else { return failure }
  let (first, before) = (words[0], words[-1])
  words[-1] = Linux.text("sh")
  words[0] = path
  Linux.call(.execve, Linux.address("/bin/sh"), Linux.address(words - 1), Linux.address(order.environment))
  (words[0], words[-1]) = (first, before)
  return failure
}
