import TrivisorDeviceFuzz
import Testing
import TrivisorVMM

@testable import TrivisorDevices

/// One way to break the rules, and what is to be said of it.
struct HostileRing: Sendable, CustomTestStringConvertible {
  let testDescription: String
  var features: VirtioFeatures = [.indirectDescriptors, .eventIndex]
  let fault: VirtioFault
  let attack: @Sendable (VirtioDriver, RingPlace) -> Void

  /// Publishes descriptor 0 after `describe` has done its worst.
  static func chain(
    _ name: String, _ fault: VirtioFault, features: VirtioFeatures = [.indirectDescriptors, .eventIndex],
    _ describe: @escaping @Sendable (VirtioDriver, RingPlace) -> Void
  ) -> HostileRing {
    HostileRing(testDescription: name, features: features, fault: fault) { driver, queue in
      describe(driver, queue)
      driver.publish(queue, head: 0)
    }
  }

  private static let outside = GuestPhysicalAddress(0x20_0000)

  static let all: [HostileRing] = [
    .chain("a descriptor that follows itself", .chainTooLong) { driver, queue in
      driver.describe(queue, 0, address: 0x2_0000, length: 16, flags: 3, next: 0)
    },
    .chain("two descriptors that follow each other", .chainTooLong) { driver, queue in
      driver.describe(queue, 0, address: 0x2_0000, length: 16, flags: 3, next: 1)
      driver.describe(queue, 1, address: 0x2_0000, length: 16, flags: 3, next: 0)
    },
    .chain("a loop of empty descriptors", .chainTooLong) { driver, queue in
      driver.describe(queue, 0, address: 0x2_0000, length: 0, flags: 3, next: 0)
    },
    .chain("a successor outside the table", .indexOutOfRange(16)) { driver, queue in
      driver.describe(queue, 0, address: 0x2_0000, length: 16, flags: 3, next: 16)
    },
    .chain("a buffer that leaves memory", .bufferOutsideMemory(GuestPhysicalAddress(0x1f_ffff), 2)) { driver, queue in
      driver.describe(queue, 0, address: 0x1f_ffff, length: 2, flags: 2)
    },
    .chain("a buffer behind memory", .bufferOutsideMemory(outside, 1)) { driver, queue in
      driver.describe(queue, 0, address: 0x20_0000, length: 1, flags: 2)
    },
    .chain(
      "a buffer whose end wraps", .bufferOutsideMemory(GuestPhysicalAddress(0xffff_ffff_ffff_ff00), 0xffff_ffff)
    ) { driver, queue in
      driver.describe(queue, 0, address: 0xffff_ffff_ffff_ff00, length: 0xffff_ffff, flags: 2)
    },
    .chain("a buffer to read after one to write", .readableAfterWritable) { driver, queue in
      driver.describe(queue, 0, address: 0x2_0000, length: 16, flags: 3, next: 1)
      driver.describe(queue, 1, address: 0x2_0000, length: 16, flags: 0)
    },
    .chain("an indirect table in an indirect table", .unusableIndirectTable) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 16, flags: 4)
      driver.describe(at: 0x4_0000, address: 0x4_0000, length: 16, flags: 4)
    },
    .chain("an indirect table with a successor", .unusableIndirectTable) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 16, flags: 5, next: 1)
    },
    .chain("an indirect table of a length and a half", .unusableIndirectTable) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 24, flags: 4)
    },
    .chain("an empty indirect table", .unusableIndirectTable) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 0, flags: 4)
    },
    .chain("an indirect table with more entries than an index can reach", .unusableIndirectTable) { driver, queue in
      driver.describe(queue, 0, address: 0, length: 16 << 17, flags: 4)
    },
    .chain("an indirect table outside memory", .bufferOutsideMemory(outside, 16)) { driver, queue in
      driver.describe(queue, 0, address: 0x20_0000, length: 16, flags: 4)
    },
    .chain("an indirect table that was not negotiated", .unusableIndirectTable, features: []) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 16, flags: 4)
    },
    .chain("an index outside an indirect table", .indexOutOfRange(2)) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 32, flags: 4)
      driver.describe(at: 0x4_0000, address: 0x2_0000, length: 1, flags: 3, next: 2)
    },
    .chain("a loop in an indirect table", .chainTooLong) { driver, queue in
      driver.describe(queue, 0, address: 0x4_0000, length: 32, flags: 4)
      driver.describe(at: 0x4_0000, address: 0x2_0000, length: 1, flags: 3, next: 1)
      driver.describe(at: 0x4_0010, address: 0x2_0000, length: 1, flags: 3, next: 0)
    },
    .chain("a chain of 65536 pieces", .chainTooLong) { driver, queue in
      driver.describe(queue, 0, address: 0x10_0000, length: 16 << 16, flags: 4)
      for index in 0..<(1 << 16) as Range<UInt64> {
        driver.describe(
          at: 0x10_0000 + 16 * index, address: 0x2_0000, length: 1, flags: 3,
          next: UInt16(truncatingIfNeeded: index + 1))
      }
    },
    HostileRing(testDescription: "a head outside the table", fault: .indexOutOfRange(16)) { driver, queue in
      driver.publish(queue, head: 16)
    },
    HostileRing(testDescription: "more heads than the ring holds", fault: .overrun(17)) { driver, queue in
      driver.store(UInt16(17), at: queue.available + 2)
    },
    HostileRing(testDescription: "an index that runs backwards", fault: .overrun(0xffff)) { driver, queue in
      driver.store(UInt16.max, at: queue.available + 2)
    },
    HostileRing(testDescription: "a queue moved while in use", fault: .changedWhileInUse) { driver, queue in
      driver.write(VirtioDriver.Register.descriptors, 0x5_0000)
    },
    HostileRing(testDescription: "a queue's used ring moved while in use", fault: .changedWhileInUse) { driver, queue in
      driver.write(VirtioDriver.Register.used + 4, 1)
    },
    HostileRing(testDescription: "a queue resized while in use", fault: .changedWhileInUse) { driver, queue in
      driver.write(VirtioDriver.Register.queueSize, 32)
    },
  ]
}

@Suite("Hostile rings")
struct HostileRingTests {
  @Test("the device is marked broken, the driver told, and nothing else happens", arguments: HostileRing.all)
  func broken(_ ring: HostileRing) throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue], features: ring.features)
    ring.attack(driver, queue)
    let before = driver.bytes(at: 0, count: 2 << 20)
    driver.run()
    #expect(driver.isBroken)
    #expect(driver.device.fault == ring.fault)
    #expect(driver.interrupts == 1)
    #expect(driver.read(VirtioDriver.Register.interruptStatus) == 2)
    #expect(driver.bytes(at: 0, count: 2 << 20) == before)

    // It stays so, whatever comes, until the driver resets.
    driver.describe(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
    driver.publish(queue, head: 0)
    driver.run()
    #expect(driver.usedIndex(queue) == 0)
    #expect(driver.interrupts == 1)
    for address in [queue.available, queue.used] { driver.store(UInt32(0), at: address) }
    driver.open([queue])
    #expect(driver.request(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)]) == 8)
    #expect(!driver.isBroken)
    #expect(driver.device.fault == nil)
  }

  @Test(
    "a queue that can't be is refused when it is made ready",
    arguments: [
      (RingPlace(size: 0), VirtioFault.unusableSize(0)), (RingPlace(size: 3), .unusableSize(3)),
      (RingPlace(size: 128), .unusableSize(128)),
      (RingPlace(descriptors: 0x1_0008), .unusableTable(GuestPhysicalAddress(0x1_0008))),
      (RingPlace(available: 0x1_4001), .unusableTable(GuestPhysicalAddress(0x1_4001))),
      (RingPlace(used: 0x1_8002), .unusableTable(GuestPhysicalAddress(0x1_8002))),
      (RingPlace(descriptors: 0x1f_fff0), .unusableTable(GuestPhysicalAddress(0x1f_fff0))),
      (RingPlace(used: 0xffff_ffff_ffff_fffc), .unusableTable(GuestPhysicalAddress(0xffff_ffff_ffff_fffc))),
    ] as [(RingPlace, VirtioFault)])
  func unusableQueue(place: RingPlace, fault: VirtioFault) throws {
    let driver = try VirtioDriver(VirtioEntropy())
    driver.open([place])
    #expect(driver.isBroken)
    #expect(driver.device.fault == fault)
    #expect(driver.read(VirtioDriver.Register.queueReady) == 0)
    driver.run()
  }

  @Test("pieces of more than 4 GiB together are too many, though the bytes are the same")
  func tooManyBytes() throws {
    let driver = try VirtioDriver(VirtioEntropy(), memorySize: 8 << 20)
    let queue = RingPlace.standard()
    driver.open([queue], features: .indirectDescriptors)
    for index in 0..<1024 as Range<UInt64> {
      driver.describe(
        at: 0x4_0000 + 16 * index, address: 0, length: 8 << 20, flags: index == 1023 ? 2 : 3, next: UInt16(index + 1))
    }
    driver.describe(queue, 0, address: 0x4_0000, length: 16 * 1024, flags: 4)
    driver.publish(queue, head: 0)
    driver.run()
    #expect(driver.device.fault == .chainTooLong)
  }

  @Test("the longest chain that is allowed is served")
  func longestChain() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue], features: .indirectDescriptors)
    let count = UInt64(SplitRing.maximumChainLength)
    for index in 0..<count {
      let isLast = index == count - 1
      driver.describe(
        at: 0x4_0000 + 16 * index, address: 0x8_0000 + index, length: 1, flags: isLast ? 2 : 3, next: UInt16(index + 1))
    }
    driver.describe(queue, 0, address: 0x4_0000, length: UInt32(16 * count), flags: 4)
    driver.publish(queue, head: 0)
    driver.run()
    #expect(driver.usedEntry(queue, 0).length == UInt32(count))
  }
}
