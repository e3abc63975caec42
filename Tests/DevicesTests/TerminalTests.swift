import TrivisorCLinux
import TrivisorDevices
import Glibc
import Testing

@Suite("Escape sequences")
struct EscapeFilterTests {
  private func actions(_ bytes: [UInt8], guestIsListening: Bool = true) -> [EscapeFilter.Action] {
    var filter = EscapeFilter()
    return bytes.map { filter.filter($0, guestIsListening: guestIsListening) }
  }

  @Test("ordinary keys go to the guest")
  func ordinary() {
    #expect(actions([0x61, 0x0d, 0x1b, 0xff]) == [.pass(0x61), .pass(0x0d), .pass(0x1b), .pass(0xff)])
  }

  @Test("Ctrl-A and a letter is a command")
  func commands() {
    #expect(actions([1, 0x78]) == [.swallow, .quit])
    #expect(actions([1, 0x68, 0x78]) == [.swallow, .help, .pass(0x78)])
    #expect(actions([1, 1, 0x78]) == [.swallow, .pass(1), .pass(0x78)])
    #expect(actions([1, 0x61]) == [.swallow, .pass(1)])
    #expect(actions([1, 0x7a, 0x7a]) == [.swallow, .swallow, .pass(0x7a)])
  }

  @Test("Ctrl-C is the guest's only if the guest listens, and ends a command")
  func interrupt() {
    #expect(actions([3]) == [.pass(3)])
    #expect(actions([3], guestIsListening: false) == [.interrupt])
    #expect(actions([1, 3, 0x78]) == [.swallow, .pass(3), .pass(0x78)])
    #expect(actions([1, 3], guestIsListening: false) == [.swallow, .interrupt])
  }
}

@Suite("Terminal")
struct TerminalTests {
  /// Both ends of a pseudo-terminal.
  private func openTerminal() throws -> (master: Int32, slave: Int32) {
    var master: Int32 = -1
    var slave: Int32 = -1
    try #require(openpty(&master, &slave, nil, nil, nil) == 0)
    return (master, slave)
  }

  private func settings(_ descriptor: Int32) -> termios {
    var settings = termios()
    tcgetattr(descriptor, &settings)
    return settings
  }

  @Test("raw on the way in, as it was on the way out, and restored however often it is asked")
  func rawAndBack() throws {
    let (master, slave) = try openTerminal()
    defer {
      close(master)
      close(slave)
    }
    let before = settings(slave)
    let terminal = try #require(Terminal(fileDescriptor: slave))
    try terminal.makeRaw()
    try terminal.makeRaw()
    let raw = settings(slave)
    #expect(raw.c_lflag & tcflag_t(ICANON | ECHO | ISIG) == 0)
    #expect(raw.c_iflag & tcflag_t(ICRNL | IXON) == 0)
    #expect(raw.c_oflag == before.c_oflag)
    terminal.restore()
    terminal.restore()
    #expect(settings(slave).c_lflag == before.c_lflag)
    #expect(settings(slave).c_iflag == before.c_iflag)
    try terminal.makeRaw()
    #expect(settings(slave).c_lflag & tcflag_t(ICANON) == 0)
  }

  @Test("a terminal that goes out of use is restored")
  func deinitialization() throws {
    let (master, slave) = try openTerminal()
    defer {
      close(master)
      close(slave)
    }
    let before = settings(slave)
    do {
      let terminal = try #require(Terminal(fileDescriptor: slave))
      try terminal.makeRaw()
    }
    #expect(settings(slave).c_lflag == before.c_lflag)
  }

  @Test("what is not a terminal has none")
  func noTerminal() {
    #expect(Terminal(fileDescriptor: -1) == nil)
  }
}
