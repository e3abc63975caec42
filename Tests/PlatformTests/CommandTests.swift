import TrivisorBoot
import TrivisorCChannelGuest
import TrivisorCommandChannel
import TrivisorDevices
import Glibc
import TrivisorHardwareTechnique
import TrivisorPlatform
import TrivisorRewritingTechnique
import Testing
import TrivisorVMM

/// Where a command can run on this host.
private let techniques: [TechniqueName] =
  [.rewriting] + (access("/dev/kvm", R_OK | W_OK) == 0 ? [.hardware] : [])

@Suite("A command over COM2, in a guest of our own", .serialized)
struct CommandTests {
  /// Runs the guest with bytes piped in.
  private func run(
    _ command: String, input: [UInt8], _ name: TechniqueName
  ) throws -> (Outcome, [UInt8]) {
    let bytes = UnsafeRawBufferPointer(start: channelGuestBytes(), count: channelGuestSize())
    let request = BootRequest(image: try BootImage(name: "channel guest", bytes: bytes), kind: .flat64)
    var configuration = PlatformConfiguration(boot: request)
    configuration.serialPorts = [SerialPortConfiguration(output: MemorySink())]
    let (output, errors) = (MemorySink(limit: 4 << 20), MemorySink())
    let channel = try CommandChannel(CommandOrder(.shell(command)), output: output, errorOutput: errors)
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    let writeEnd = ends[1]
    // A guest that ends before it has read all makes this a broken pipe.
    signal(SIGPIPE, SIG_IGN)
    let writer = DetachedThread.start {
      var rest = input[...]
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(writeEnd, $0.baseAddress, $0.count) }
        guard count > 0 else { break }
        rest = rest.dropFirst(count)
      }
      close(writeEnd)
    }
    try #require(writer)
    ends[1] = -1
    configuration.command = CommandConfiguration(
      channel: channel, input: SerialInput(fileDescriptor: ends[0], isTerminal: false))
    let technique: any Technique = name == .hardware ? HardwareTechnique() : RewritingTechnique()
    #expect(configuration.validate(for: technique).isEmpty)
    var options = RunOptions()
    options.timeLimit = 300_000_000_000
    let result = try VirtualMachine(configuration, technique: technique).runOnThisThread(options)
    #expect(errors.bytes == [])
    return (result.outcome, output.bytes)
  }

  @Test("bytes go in and come back, then the status", arguments: techniques)
  func echo(technique: TechniqueName) throws {
    // KVM may have to emulate every instruction of such a guest.
    let count = technique == .rewriting ? 300_000 : 500
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let (outcome, output) = try run("e", input: bytes, technique)
    #expect(outcome == .commandEnded(.exited(42)))
    #expect(output == bytes)
  }

  @Test("an order longer than the guest's window", arguments: techniques)
  func longOrder(technique: TechniqueName) throws {
    let length = technique == .rewriting ? 9000 : 3100
    let (outcome, output) = try run("e" + String(repeating: "x", count: length), input: [1], technique)
    #expect(outcome == .commandEnded(.exited(42)))
    #expect(output == [1])
  }

  @Test("a signal that killed it, nonsense on the line, an end without a status", arguments: techniques)
  func endings(technique: TechniqueName) throws {
    #expect(try run("k", input: [], technique).0 == .commandEnded(.killed(signal: 9)))
    #expect(try run("r", input: [5, 6], technique).0 == .reset)
    let (outcome, output) = try run("x", input: [5, 6], technique)
    guard case .commandLost(let reason) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(reason.contains("ttyS1"))
    #expect(output == [5, 6])
  }

  @Test("what can't be had beside a command is refused")
  func findings() throws {
    let bytes = UnsafeRawBufferPointer(start: channelGuestBytes(), count: channelGuestSize())
    let request = BootRequest(image: try BootImage(name: "channel guest", bytes: bytes), kind: .flat64)
    var configuration = PlatformConfiguration(boot: request)
    let sink = MemorySink()
    let channel = try CommandChannel(CommandOrder(.shell("true")), output: sink, errorOutput: sink)
    configuration.command = CommandConfiguration(channel: channel)
    let technique = RewritingTechnique()
    #expect(configuration.validate(for: technique).isEmpty)
    for policy in [ResetPolicy.restart, .success] {
      configuration.resetPolicy = policy
      #expect(configuration.validate(for: technique).count == 1)
    }
    configuration.resetPolicy = .failure
    configuration.serialPorts = [SerialPortConfiguration(output: sink), SerialPortConfiguration(output: sink)]
    #expect(configuration.validate(for: technique).count == 1)
  }
}
