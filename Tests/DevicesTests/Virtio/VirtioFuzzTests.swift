import Testing
import TrivisorDeviceFuzz
import TrivisorSpoiledStates
import TrivisorVMM

@testable import TrivisorDevices

/// For longer than the suite takes: `tools/fuzz devices`.
@Suite("Random drivers", .timeLimit(.minutes(15)))
struct VirtioFuzzTests {
  private static let steps = 1000
  /// Over MMIO and over PCI, twice.
  private static let sessions = 4

  /// Whatever a guest does: no trap, no endless work, nothing written where it may not be, and the device serves the next driver.
  @Test("a driver that does anything", arguments: DeviceFuzzer.Kind.allCases)
  func fuzz(_ kind: DeviceFuzzer.Kind) throws {
    let fuzzer = DeviceFuzzer(kind, seed: 1)
    var inputs = 0
    var faults: Set<String> = []
    for session in 0..<Self.sessions {
      let outcome = try fuzzer.run(session: session, steps: Self.steps)
      inputs += outcome.inputs
      faults.formUnion(outcome.faults)
    }
    // Else this would test nothing: many requests were looked at, and faults of most kinds were found.
    #expect(inputs > Self.sessions * Self.steps / 4)
    if kind != .configuration { #expect(faults.count >= 6) }
  }

  @Test("a session is the same again, but for what the host's other processes do")
  func repeated() throws {
    let fuzzer = DeviceFuzzer(.blockSnapshot, seed: 7)
    let first = try fuzzer.run(session: 3, steps: Self.steps)
    let second = try fuzzer.run(session: 3, steps: Self.steps)
    #expect(first.inputs == second.inputs)
    #expect(first.faults == second.faults)
  }

  @Test("a ring that changes while it is looked at", arguments: 1...4 as ClosedRange<UInt64>)
  func concurrentChange(seed: UInt64) throws {
    let playground: UInt64 = 0x4_0000
    let memorySize: UInt64 = 2 << 20
    let file = try TemporaryFile([UInt8](repeating: 0, count: 16 * 512))
    let image = try DiskImage(path: file.path, isReadOnly: false)
    let driver = try VirtioDriver(
      VirtioBlock(image, identifier: "fuzz"), usesWorker: true, memorySize: memorySize)
    let queue = RingPlace(index: 0, size: 16, descriptors: 0, available: 0x1000, used: 0x2000)
    let scribbler = OwnThread {
      var generator = SeededGenerator(seed: seed &+ 1000)
      for _ in 0..<60_000 {
        let place = UInt64.random(in: 0..<(playground / 8), using: &generator) * 8
        driver.store(UInt64.random(in: 0..<playground, using: &generator), at: place)
      }
    }
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      if driver.isBroken || driver.status == 0 { driver.open([queue], features: [.indirectDescriptors]) }
      driver.store(UInt32.random(in: 0..<16, using: &generator), at: 0x1_0000)
      let data = RequestPiece(address: 0x2_0000, length: 512, isWritable: Bool.random(using: &generator))
      driver.describe(
        queue,
        [
          RequestPiece(address: 0x1_0000, length: 16), data,
          RequestPiece(address: 0x1_1000, length: 1, isWritable: true),
        ])
      driver.publish(queue, head: 0)
      driver.kick()
    }
    scribbler.join()
    driver.device.stop()
    let rest = Int(memorySize - playground)
    #expect(driver.bytes(at: playground, count: rest).allSatisfy { $0 == 0 })
  }
}
