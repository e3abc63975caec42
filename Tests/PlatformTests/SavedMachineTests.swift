import TrivisorBoot
import TrivisorDevices
import TrivisorEmbeddedGuests
import Foundation
import Glibc
import TrivisorParavirtTechnique
import TrivisorPlatform
import TrivisorRewritingTechnique
import Synchronization
import Testing
import TrivisorVMM

/// A software technique, and what of a guest it runs.
enum SavingTechnique: CaseIterable {
  case rewriting, paravirtual

  var technique: any Technique {
    switch self {
    case .rewriting: RewritingTechnique()
    case .paravirtual: ParavirtTechnique()
    }
  }

  func bytes(of guest: EmbeddedGuest) throws -> UnsafeRawBufferPointer {
    self == .rewriting ? guest.bytes : try #require(guest.paravirtualBytes)
  }
}

/// Runs a guest of ours, breaks it off, and goes on in a new machine, as often as asked.
private final class BrokenRun: Sendable {
  private let image: BootImage
  private let commandLine: String
  private let processors: Int
  private let technique: any Technique
  let sink = MemorySink()

  init(
    _ guest: String, _ commandLine: String = "", _ technique: SavingTechnique = .rewriting, processors: Int = 1
  ) throws {
    let guest = try #require(EmbeddedGuest.named(guest))
    image = try BootImage(name: guest.name, bytes: try technique.bytes(of: guest))
    self.commandLine = commandLine
    self.technique = technique.technique
    self.processors = processors
  }

  func machine(restoring saved: MachineSaved? = nil, change: (inout PlatformConfiguration) -> Void = { _ in })
    -> VirtualMachine
  {
    var request = BootRequest(image: image)
    request.commandLine = commandLine
    var configuration = PlatformConfiguration(boot: request)
    configuration.machine.memorySize = 64 << 20
    configuration.machine.processorCount = processors
    configuration.serialPorts = [SerialPortConfiguration(output: sink)]
    change(&configuration)
    return VirtualMachine(configuration, technique: technique, restoring: saved)
  }

  /// Runs `machine` until it has printed so many bytes in all and so many microseconds have passed, saves it and ends it.
  /// `nil` if the guest has ended before.
  func save(_ machine: VirtualMachine, printed: Int, microseconds: UInt32) async throws -> MachineSaved? {
    async let result = machine.run(Self.options)
    // On a thread of its own: in a whole run of the tests the shared ones are busy for longer than a guest lives.
    let saved = await withCheckedContinuation { continuation in
      Thread { [self] in
        continuation.resume(returning: breakOff(machine, printed: printed, microseconds: microseconds))
      }.start()
    }
    _ = try await result
    return saved
  }

  private func breakOff(_ machine: VirtualMachine, printed: Int, microseconds: UInt32) -> MachineSaved? {
    while true {
      switch machine.state {
      case .created: usleep(50)
      case .ended: return nil
      default:
        if sink.bytes.count < printed {
          usleep(50)
        } else {
          usleep(microseconds)
          machine.pause()
          guard machine.state == .paused, let saved = try? machine.save() else { continue }
          machine.stop()
          return saved
        }
      }
    }
  }

  static var options: RunOptions {
    var options = RunOptions()
    options.timeLimit = 300_000_000_000
    return options
  }

  /// Without the lines of `privileged` that depend on the host, down to which of its processors ran them.
  var output: String {
    sink.text.replacing("\r\n", with: "\n").split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.hasPrefix("user   *") && !$0.hasPrefix("kernel *") }.joined(separator: "\n")
  }
}

@Suite("A machine saved in the middle of its run", .serialized)
struct SavedMachineTests {
  /// What the guest prints and how it ends without a break.
  private func whole(
    _ guest: String, _ commandLine: String, _ technique: SavingTechnique = .rewriting, processors: Int = 1
  ) async throws -> (output: String, outcome: Outcome) {
    let run = try BrokenRun(guest, commandLine, technique, processors: processors)
    let outcome = try await run.machine().run(BrokenRun.options).outcome
    return (run.output, outcome)
  }

  @Test(
    "goes on in a new machine as if nothing had been",
    arguments: [
      ("hello", "one two three"), ("compute", ""), ("ring3", ""), ("ring3", "syscall"), ("privileged", "common"),
      ("hello-real", ""), ("hello-protected", ""),
    ])
  func goesOn(guest: String, commandLine: String) async throws {
    try await breakOften(guest, commandLine, .rewriting)
  }

  @Test(
    "and so does a domain",
    arguments: [
      ("hello", "one two three", 1), ("compute", "", 1), ("ring3", "", 1), ("ring3", "syscall", 1),
      ("privileged", "common", 1), ("features", "", 1), ("user32", "", 1), ("smp", "", 1), ("smp", "", 2),
      ("smp", "", 4),
    ])
  func domainGoesOn(guest: String, commandLine: String, processors: Int) async throws {
    try await breakOften(guest, commandLine, .paravirtual, processors: processors)
  }

  private func breakOften(
    _ guest: String, _ commandLine: String, _ technique: SavingTechnique, processors: Int = 1
  ) async throws {
    let expected = try await whole(guest, commandLine, technique, processors: processors)
    let length = expected.output.utf8.count
    var breaks = 0
    for seed: UInt64 in 1...4 {
      let run = try BrokenRun(guest, commandLine, technique, processors: processors)
      var machine = run.machine()
      var random = seed &* 0x9e37_79b9_7f4a_7c15
      for part in 1...4 {
        random = (random ^ random >> 29) &* 0xbf58_476d_1ce4_e5b9
        let printed = Int(random >> 33) % max(length * part / 4, 1)
        let saved = try await run.save(machine, printed: printed, microseconds: UInt32(random >> 20 & 2047))
        guard let saved else { break }
        breaks += 1
        machine = run.machine(restoring: saved)
      }
      if case .ended = machine.state {
        #expect(machine.state == .ended(expected.outcome))
      } else {
        #expect(try await machine.run(BrokenRun.options).outcome == expected.outcome)
      }
      #expect(run.output == expected.output, "seed \(seed)")
    }
    #expect(breaks > 0 || length < 200)
  }

  @Test("goes on itself when it has been saved, and its clone does as well", arguments: SavingTechnique.allCases)
  func clone(technique: SavingTechnique) async throws {
    let expected = try await whole("ring3", "", technique)
    let run = try BrokenRun("ring3", "", technique)
    let machine = run.machine()
    async let result = machine.run(BrokenRun.options)
    while run.sink.bytes.count < 300 { try await Task.sleep(for: .microseconds(100)) }
    machine.pause()
    let saved = try machine.save()
    let before = run.sink.bytes
    machine.resume()
    #expect(try await result.outcome == expected.outcome)
    #expect(run.output == expected.output)
    for _ in 0..<2 {
      let other = try BrokenRun("ring3", "", technique)
      before.withUnsafeBytes { other.sink.write($0) }
      #expect(try await other.machine(restoring: saved).run(BrokenRun.options).outcome == expected.outcome)
      #expect(other.output == expected.output)
    }
  }

  @Test("is the same after a way through a format outside of this process", arguments: SavingTechnique.allCases)
  func throughJSON(technique: SavingTechnique) async throws {
    let expected = try await whole("ring3", "", technique)
    let run = try BrokenRun("ring3", "", technique)
    let saved = try #require(try await run.save(run.machine(), printed: 200, microseconds: 500))
    let decoder = JSONDecoder()
    MachineSaved.provide(technique.technique, to: &decoder.userInfo)
    let copy = try decoder.decode(Versioned<MachineSaved>.self, from: JSONEncoder().encode(Versioned(saved))).state
    #expect(copy == saved)
    #expect(try await run.machine(restoring: copy).run(BrokenRun.options).outcome == expected.outcome)
    #expect(run.output == expected.output)
  }

  @Test("is refused by a machine of another configuration, with a sentence")
  func otherConfiguration() async throws {
    let run = try BrokenRun("ring3")
    let saved = try #require(try await run.save(run.machine(), printed: 200, microseconds: 0))
    let changes: [(inout PlatformConfiguration) -> Void] = [
      { $0.machine.memorySize = 32 << 20 }, { $0.machine.processorModel = .x86_64v2 },
      { $0.serialPorts.append(SerialPortConfiguration(output: MemorySink())) }, { $0.hasEntropyDevice = false },
    ]
    for change in changes {
      do {
        _ = try await run.machine(restoring: saved, change: change).run(BrokenRun.options)
        Issue.record("it was taken")
      } catch {
        #expect(error.description.contains("can't be restored"))
      }
    }
  }

  @Test("can't be saved while it runs")
  func running() async throws {
    let run = try BrokenRun("crash", "loop")
    let machine = run.machine()
    async let result = machine.run(BrokenRun.options)
    while machine.state != .running { try await Task.sleep(for: .microseconds(100)) }
    #expect(throws: TechniqueFailure.self) { try machine.save() }
    machine.stop()
    _ = try await result
  }
}
