import TrivisorBoot
import TrivisorDevices
import TrivisorEmbeddedGuests
import TrivisorSpoiledStates
import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorParavirtTechnique
@testable import TrivisorPlatform
@testable import TrivisorXenDomain

/// A domain from an enemy. That one from a friend goes on is `SavedMachineTests`' affair.
@Suite("Saved domains", .serialized)
struct SavedDomainTests {
  private static func configuration() throws -> PlatformConfiguration {
    let bytes = try #require(EmbeddedGuest.named("ring3")?.paravirtualBytes)
    let image = try BootImage(name: "ring3", bytes: bytes)
    var configuration = PlatformConfiguration(boot: BootRequest(image: image))
    configuration.machine.memorySize = 16 << 20
    configuration.serialPorts = [SerialPortConfiguration(output: MemorySink())]
    return configuration
  }

  /// In the middle of a run.
  private static func saved() async throws -> MachineSaved {
    for _ in 0..<100 {
      var configuration = try configuration()
      let sink = MemorySink()
      configuration.serialPorts = [SerialPortConfiguration(output: sink)]
      let machine = VirtualMachine(configuration, technique: ParavirtTechnique())
      async let result = machine.run()
      while sink.bytes.count < 100, !machine.hasEnded { try await Task.sleep(for: .microseconds(50)) }
      machine.pause()
      // It may have come to its end before.
      let saved = try? machine.save()
      machine.stop()
      _ = try await result
      if let saved { return saved }
    }
    throw TechniqueFailure(call: "saving the machine", reason: "each of a hundred came to its end before")
  }

  /// Goes on with it for a short while.
  /// - Returns: whether it was taken.
  private static func isTaken(_ saved: MachineSaved) async throws -> Bool {
    var options = RunOptions()
    options.timeLimit = 40_000_000
    let configuration = try configuration()
    do throws(MachineFailure) {
      let result = try await VirtualMachine(configuration, technique: ParavirtTechnique(), restoring: saved).run(
        options)
      if case .failed = result.outcome { return false }
      return true
    } catch {
      #expect(error.description.contains("can't be restored"))
      return false
    }
  }

  @Test("nothing that the hypervisor knows of a spoiled domain makes it trap", arguments: 1...2 as ClosedRange<UInt64>)
  func spoiledDomain(seed: UInt64) async throws {
    var generator = SeededGenerator(seed: seed)
    let saved = try await Self.saved()
    let own = try #require((saved.partition as? ParavirtPartition.Saved)?.domain)
    #expect(try throughJSON(own) == own)
    var (refusals, acceptances) = (0, 0)
    // Most of what is spoiled has not even the form any more.
    for round in 0..<2000 where refusals + acceptances < 25 {
      // The machine-to-physical table is large, and any of it is as good as any other.
      var small = own
      small.pseudoPhysical = []
      var worse: DomainSaved? = small
      for _ in 0...round % 6 { worse = try worse.flatMap { try spoiled($0, using: &generator) } }
      guard var domain = worse else { continue }
      if domain.pseudoPhysical.isEmpty { domain.pseudoPhysical = own.pseudoPhysical }
      var other = saved
      other.partition = ParavirtPartition.Saved(domain: domain)
      if try await Self.isTaken(other) { acceptances += 1 } else { refusals += 1 }
    }
    #expect(refusals > 0)
    #expect(acceptances > 0)
  }

  @Test("what is typed rings at its first processor")
  func input() async throws {
    let saved = try await Self.saved()
    let own = try #require((saved.partition as? ParavirtPartition.Saved)?.domain)
    let memory = try GuestMemory(size: 16 << 20)
    try memory.restore(saved.memory)
    let doorbell = CountingDoorbell()
    let domain = try Domain(
      own, memory: memory, console: MemorySink(), doorbells: [doorbell], reference: TimeReference())
    #expect([UInt8](repeating: 65, count: 3).withUnsafeBytes { domain.console.receive($0) } == 3)
    #expect(doorbell.count.load(ordering: .relaxed) == 1)
    #expect(domain.save().hasInput)
  }

  @Test(
    "nor does its memory: page tables are counted as if the domain made them now",
    arguments: 1...2 as ClosedRange<UInt64>)
  func spoiledMemory(seed: UInt64) async throws {
    var generator = SeededGenerator(seed: seed)
    let saved = try await Self.saved()
    let tables = try #require((saved.partition as? ParavirtPartition.Saved)?.domain?.tables.pins.map(\.frame))
    #expect(!tables.isEmpty)
    for _ in 0..<60 {
      var other = saved
      for _ in 0..<20 {
        let piece = Int.random(in: other.memory.pieces.indices, using: &generator)
        let place = Int.random(in: 0..<other.memory.pieces[piece].bytes.count / 8, using: &generator)
        // Often something that looks like an entry.
        let frame = UInt64.random(in: 0xff0..<0x2010, using: &generator)
        let word = Bool.random(using: &generator) ? frame << 12 | 0x67 : generator.next()
        for byte in 0..<8 {
          other.memory.pieces[piece].bytes[8 * place + byte] = UInt8(truncatingIfNeeded: word >> UInt64(8 * byte))
        }
      }
      _ = try await Self.isTaken(other)
    }
  }
}

private final class CountingDoorbell: DomainDoorbell {
  let count = Atomic<Int>(0)
  func ring() { count.add(1, ordering: .relaxed) }
  func silence() {}
  func takeStopRequest() -> Bool { false }
  func sleep(until deadline: UInt64) {}
}

extension VirtualMachine {
  fileprivate var hasEnded: Bool {
    if case .ended = state { true } else { false }
  }
}
