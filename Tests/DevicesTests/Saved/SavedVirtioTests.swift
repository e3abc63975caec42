import Glibc
import SystemPackage
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Saved virtio devices")
struct SavedVirtioTests {
  private static let header: UInt64 = 0x2_0000, data: UInt64 = 0x3_0000, status: UInt64 = 0x2_8000
  private let queue = RingPlace.standard()

  private func disk(_ file: TemporaryFile, usesWorker: Bool = false) throws -> VirtioDriver {
    try VirtioDriver(
      VirtioBlock(DiskImage(path: file.path, isReadOnly: true), identifier: "disk"), usesWorker: usesWorker)
  }

  private func publishRead(_ driver: VirtioDriver, sector: UInt64, head: UInt16) {
    driver.store(UInt32(0), at: Self.header)
    driver.store(sector, at: Self.header + 8)
    driver.store(UInt8(0xee), at: Self.status)
    driver.describe(
      queue,
      [
        .init(address: Self.header, length: 16), .init(address: Self.data, length: 512, isWritable: true),
        .init(address: Self.status, length: 1, isWritable: true),
      ], from: Int(head))
    driver.publish(queue, head: head)
  }

  private func move(_ first: VirtioDriver, to second: VirtioDriver) throws {
    try second.memory.restore(throughJSON(first.memory.save()))
    try second.device.restore(throughJSON(first.device.save()))
  }

  @Test("a request that waits is answered by the restored device, and rings go on", arguments: [0, 29] as [Int])
  func waitingRequest(feature: Int) throws {
    let file = try TemporaryFile((0..<16 * 512).map { UInt8(truncatingIfNeeded: $0 / 512 + 1) })
    let first = try disk(file)
    first.open([queue], features: feature == 0 ? .bit(9) : [.bit(9), .eventIndex])
    for round in 0..<20 {
      publishRead(first, sector: UInt64(round % 16), head: 0)
      first.run()
    }
    publishRead(first, sector: 3, head: 4)
    let second = try disk(file)
    try move(first, to: second)
    #expect(second.status == 15)
    #expect(second.usedIndex(queue) == 20)
    second.device.processQueues()
    #expect(second.usedIndex(queue) == 21)
    #expect(second.usedEntry(queue, 20) == (4, 513))
    #expect(second.bytes(at: Self.data, count: 512) == [UInt8](repeating: 4, count: 512))
    #expect(second.load(UInt8.self, at: Self.status) == 0)
    first.device.processQueues()
    #expect(try first.device.save() == throughJSON(second.device.save()))
  }

  @Test("a held device leaves its queues alone, and looks when it is released")
  func hold() throws {
    let file = try TemporaryFile([UInt8](repeating: 7, count: 16 * 512))
    let driver = try disk(file, usesWorker: true)
    driver.open([queue], features: .bit(9))
    driver.device.hold()
    publishRead(driver, sector: 1, head: 0)
    driver.kick()
    usleep(20_000)
    #expect(driver.usedIndex(queue) == 0)
    driver.device.release()
    for _ in 0..<5000 where driver.usedIndex(queue) == 0 { usleep(1000) }
    #expect(driver.usedIndex(queue) == 1)
    driver.device.stop()
  }

  @Test("a restored device with a thread answers what waited")
  func worker() throws {
    let file = try TemporaryFile([UInt8](repeating: 7, count: 16 * 512))
    let first = try disk(file)
    first.open([queue], features: .bit(9))
    publishRead(first, sector: 1, head: 0)
    let second = try disk(file, usesWorker: true)
    try move(first, to: second)
    for _ in 0..<5000 where second.usedIndex(queue) == 0 { usleep(1000) }
    #expect(second.usedIndex(queue) == 1)
    #expect(second.interrupts == 1)
    second.device.stop()
  }

  @Test("another disk, another type and queues outside of memory are refused, and nothing changes")
  func refusals() throws {
    let (small, large) = (
      try TemporaryFile([UInt8](repeating: 1, count: 8 * 512)),
      try TemporaryFile([UInt8](repeating: 1, count: 16 * 512))
    )
    let (first, second) = (try disk(small), try disk(large))
    first.open([queue])
    let before = second.device.save()
    #expect(throws: RestoreFailure.self) { try second.device.restore(first.device.save()) }
    let entropy = try VirtioDriver(VirtioEntropy())
    #expect(throws: RestoreFailure.self) { try second.device.restore(entropy.device.save()) }
    var saved = first.device.save()
    saved.control.layouts[0].used = 1 << 40
    let third = try disk(small)
    #expect(throws: RestoreFailure.self) { try third.device.restore(saved) }
    #expect(second.device.save() == before)
  }

  @Test("what was typed and not yet read, and messages on their way, reach the restored console's driver")
  func console() throws {
    let rings = [RingPlace.standard(0), .standard(1), .standard(2), .standard(3)]
    let (one, other) = (VirtioConsole(sink: MemorySink()), VirtioConsole(sink: MemorySink()))
    let (first, second) = (try VirtioDriver(one), try VirtioDriver(other))
    first.open(rings, features: .bit(1))
    // DEVICE_READY, then PORT_OPEN.
    for (event, head) in [(0, 0), (6, 1)] as [(UInt16, UInt16)] {
      first.store(UInt32(0), at: 0x9_0000)
      first.store(event, at: 0x9_0004)
      first.store(UInt16(1), at: 0x9_0006)
      first.describe(rings[3], Int(head), address: 0x9_0000, length: 8, flags: 0)
      first.publish(rings[3], head: head)
      first.device.processQueues()
    }
    #expect(one.receive(Array("typed".utf8)) == 5)
    try move(first, to: second)
    #expect(other.isListening)
    second.describe(rings[0], 0, address: 0x9_1000, length: 64, flags: 2)
    second.publish(rings[0], head: 0)
    second.describe(rings[2], 0, address: 0x9_2000, length: 8, flags: 2)
    second.publish(rings[2], head: 0)
    second.device.processQueues()
    #expect(second.bytes(at: 0x9_1000, count: 5) == Array("typed".utf8))
    // DEVICE_ADD.
    #expect(second.load(UInt16.self, at: 0x9_2004) == 1)
  }

  @Test("nothing in a spoiled state makes a device trap", arguments: 1...4 as ClosedRange<UInt64>)
  func hostile(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let file = try TemporaryFile([UInt8](repeating: 7, count: 16 * 512))
    let first = try disk(file)
    first.open([queue], features: [.bit(9), .eventIndex])
    publishRead(first, sector: 1, head: 0)
    first.run()
    publishRead(first, sector: 2, head: 4)
    let memory = first.memory.save()
    var (refusals, acceptances) = (0, 0)
    for _ in 0..<200 {
      guard let saved = try spoiled(first.device.save(), using: &generator) else { continue }
      let second = try disk(file)
      try second.memory.restore(memory)
      do throws(RestoreFailure) {
        try second.device.restore(saved)
        acceptances += 1
      } catch {
        refusals += 1
      }
      second.device.processQueues()
      for offset in stride(from: UInt64(0), to: 0x100, by: 4) { _ = second.read(offset) }
      second.open([queue], features: .bit(9))
      publishRead(second, sector: 2, head: 4)
      second.run()
    }
    #expect(refusals > 10)
    #expect(acceptances > 5)
  }
}
