import TrivisorDeviceFuzz
import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio block: cache mode and queues")
struct VirtioBlockQueuesTests {
  private static let flush = VirtioFeatures.bit(9)
  private static let configurableCache = VirtioFeatures.bit(11)
  private static let severalQueues = VirtioFeatures.bit(12)
  private static let writeBack: UInt64 = 0x120

  private func disk(_ file: TemporaryFile, queues: Int = 1, usesWorker: Bool = false) throws -> VirtioDriver {
    try VirtioDriver(
      VirtioBlock(DiskImage(path: file.path, isReadOnly: false), identifier: "disk", queueCount: queues),
      usesWorker: usesWorker)
  }

  @Test("the cache mode is known as soon as features are, can be set by a driver that accepted that, and is saved")
  func cacheMode() throws {
    let file = try TemporaryFile([UInt8](repeating: 0, count: 16 * 512))
    let driver = try disk(file)
    driver.negotiate([Self.flush, Self.configurableCache])
    #expect(driver.read(Self.writeBack, width: .byte) == 1)
    driver.start()
    driver.write(Self.writeBack, 0, width: .byte)
    #expect(driver.read(Self.writeBack, width: .byte) == 0)
    let saved = driver.device.save()
    driver.write(Self.writeBack, 1, width: .byte)
    #expect(driver.read(Self.writeBack, width: .byte) == 1)
    try driver.device.restore(saved)
    #expect(driver.read(Self.writeBack, width: .byte) == 0)
    // A driver that can't flush relies on every write; one that did not ask for it can't set the mode.
    driver.negotiate([Self.configurableCache])
    #expect(driver.read(Self.writeBack, width: .byte) == 0)
    driver.negotiate([Self.flush])
    driver.start()
    driver.write(Self.writeBack, 0, width: .byte)
    #expect(driver.read(Self.writeBack, width: .byte) == 1)
  }

  @Test("several queues are served at the same time, each on its own thread", .timeLimit(.minutes(15)))
  func queues() throws {
    let count = 4
    let file = try TemporaryFile([UInt8](repeating: 0, count: 64 * 512))
    let driver = try disk(file, queues: count, usesWorker: true)
    #expect(driver.read(0x122, width: .word) == UInt64(count))
    let places = (0..<count).map { index in
      RingPlace(
        index: index, size: 16, descriptors: 0x10_0000 + 0x1_0000 * UInt64(index),
        available: 0x10_4000 + 0x1_0000 * UInt64(index), used: 0x10_8000 + 0x1_0000 * UInt64(index))
    }
    driver.open(places, features: [Self.flush, Self.severalQueues, .eventIndex])
    let threads = places.map { place in
      OwnThread {
        let base = 0x4_0000 + 0x1_0000 * UInt64(place.index)
        for round: UInt16 in 0..<300 {
          driver.store(UInt32(round % 10 == 9 ? 4 : 1), at: base)
          driver.store(UInt64(place.index * 16 + Int(round % 16)), at: base + 8)
          driver.store([UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 512), at: base + 0x1000)
          driver.store(UInt8(0xee), at: base + 0x2000)
          var pieces = [VirtioDriver.Piece(address: base, length: 16)]
          if round % 10 != 9 { pieces.append(.init(address: base + 0x1000, length: 512)) }
          pieces.append(.init(address: base + 0x2000, length: 1, isWritable: true))
          driver.describe(place, pieces)
          driver.publish(place, head: 0)
          driver.kick(place.index)
          while driver.usedIndex(place) != round + 1 { sched_yield() }
          #expect(driver.load(UInt8.self, at: base + 0x2000) == 0)
        }
      }
    }
    for thread in threads { thread.join() }
    // No thread is in a queue while it is held.
    driver.device.hold()
    let saved = driver.device.save()
    driver.device.release()
    #expect(saved.control.progress.allSatisfy { $0?.nextUsed == 300 })
    driver.device.stop()
    var expected = [UInt8](repeating: 0, count: 16)
    for round in 0..<300 where round % 10 != 9 { expected[round % 16] = UInt8(truncatingIfNeeded: round) }
    let content = file.content
    for sector in 0..<64 { #expect(content[512 * sector] == expected[sector % 16]) }
  }

  @Test("a disk with another number of queues is refused")
  func otherQueues() throws {
    let file = try TemporaryFile([UInt8](repeating: 0, count: 16 * 512))
    let saved = try disk(file).device.save()
    #expect(throws: RestoreFailure.self) { try disk(file, queues: 2).device.restore(saved) }
  }
}
