import TrivisorCPseudoTerminal
import Foundation
import Glibc
import Testing

@Suite("trivisor at a terminal", .enabled(if: hasKVM))
struct TerminalTests {
  /// Runs the endless loop on a new pseudo-terminal, types `keys` once it has begun, and gives status and whether the
  /// terminal's settings are as before.
  private func run(typing keys: [UInt8]) throws -> (status: Int32, isRestored: Bool, seconds: Double) {
    var slave: Int32 = -1
    let master = open_pseudo_terminal(&slave)
    try #require(master >= 0)
    defer {
      close(slave)
      close(master)
    }
    var before = termios()
    tcgetattr(slave, &before)
    let process = Process()
    process.executableURL = Command.executable.appending(path: "trivisor")
    process.arguments = ["run", "guest:crash", "--append", "loop", "--timeout", "30s"]
    process.standardInput = FileHandle(fileDescriptor: slave)
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    let began = Date()
    try process.run()
    // The guest's line says that the machine runs, and so that the terminal is raw.
    _ = try output.fileHandleForReading.read(upToCount: 10)
    var during = termios()
    tcgetattr(slave, &during)
    #expect(during.c_lflag & tcflag_t(ICANON) == 0)
    #expect(write(master, keys, keys.count) == keys.count)
    _ = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    var after = termios()
    tcgetattr(slave, &after)
    let isRestored =
      before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag
    return (process.terminationStatus, isRestored, Date().timeIntervalSince(began))
  }

  @Test("Ctrl-C ends a guest that doesn't listen, and the terminal is as before")
  func interrupt() throws {
    let result = try run(typing: [0x03])
    #expect(result.status == 130)
    #expect(result.isRestored)
    #expect(result.seconds < 10)
  }

  @Test("Ctrl-A x ends the run, and the terminal is as before")
  func escape() throws {
    let result = try run(typing: [0x01, UInt8(ascii: "x")])
    #expect(result.status == 130)
    #expect(result.isRestored)
  }

  @Test("a reader that goes away ends the run quietly")
  func closedPipe() throws {
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/bash")
    let trivisor = Command.executable.appending(path: "trivisor").path
    shell.arguments = ["-c", "'\(trivisor)' run guest:hello 2>/dev/null </dev/null | true; exit ${PIPESTATUS[0]}"]
    try shell.run()
    shell.waitUntilExit()
    // Either the guest was done before the reader had gone, or the closed pipe ended it.
    #expect([0, 141].contains(shell.terminationStatus))
  }
}
