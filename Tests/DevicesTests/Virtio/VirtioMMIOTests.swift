import TrivisorDeviceFuzz
import TrivisorCLinux
import Glibc
import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio over MMIO")
struct VirtioMMIOTests {
  private typealias Register = VirtioDriver.Register

  @Test("the registers identify the device, and only doublewords reach them")
  func identification() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    #expect(driver.read(0x00) == 0x7472_6976)
    #expect(driver.read(0x04) == 2)
    #expect(driver.read(0x08) == 4)
    #expect(driver.read(0x00, width: .byte) == 0)
    #expect(driver.read(Register.queueMaximum) == 64)
    driver.write(Register.queueSelect, 1)
    #expect(driver.read(Register.queueMaximum) == 0)
    driver.write(Register.status, 1, width: .byte)
    #expect(driver.status == 0)
    #expect(driver.read(0xb0) == 0xffff_ffff)
    driver.write(Register.featuresSelect, 1)
    #expect(driver.read(Register.features) == 1)
    driver.write(Register.featuresSelect, 0)
    #expect(driver.read(Register.features) == 0x3000_0000)
    driver.write(Register.featuresSelect, 2)
    #expect(driver.read(Register.features) == 0)
  }

  @Test("features are accepted with version 1 and nothing that was not offered, and once only")
  func negotiation() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    driver.write(Register.status, 3)
    driver.write(Register.status, 11)
    #expect(driver.status == 3)
    driver.negotiate(.bit(5))
    #expect(driver.status == 3)
    driver.start()
    #expect(driver.status == 3)
    driver.negotiate(.eventIndex)
    #expect(driver.status == 11)
    driver.write(Register.acceptedSelect, 0)
    driver.write(Register.accepted, 0xffff_ffff)
    driver.start()
    #expect(driver.status == 15)
    driver.write(Register.status, 0)
    #expect(driver.status == 0)
  }

  @Test("entropy fills what the driver gives, says how much, and interrupts once")
  func entropy() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue])
    let length = driver.request(
      queue,
      [
        .init(address: 0x2_0000, length: 100, isWritable: true), .init(address: 0x3_0000, length: 28, isWritable: true),
      ])
    #expect(length == 128)
    #expect(Set(driver.bytes(at: 0x2_0000, count: 100)).count > 20)
    #expect(driver.bytes(at: 0x2_0064, count: 16) == Array(repeating: 0, count: 16))
    #expect(driver.interrupts == 1)
    #expect(driver.read(Register.interruptStatus) == 1)
    driver.write(Register.interruptAcknowledge, 1)
    #expect(driver.read(Register.interruptStatus) == 0)
    #expect(!driver.controller.level(VirtioDriver.line))
  }

  @Test("nothing is handled before the driver is ready, everything that waits is afterwards")
  func notBeforeReady() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.negotiate()
    driver.place(queue)
    driver.describe(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
    driver.publish(queue, head: 0)
    driver.run()
    #expect(driver.usedIndex(queue) == 0)
    driver.start()
    driver.device.processQueues()
    #expect(driver.usedIndex(queue) == 1)
    // Taken back, the queue is not looked at any more.
    driver.write(Register.queueReady, 0)
    #expect(driver.read(Register.queueReady) == 0)
    driver.publish(queue, head: 0)
    driver.run()
    #expect(driver.usedIndex(queue) == 1)
  }

  @Test("without event indices the flags say who wants to be told")
  func notificationFlags() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue])
    driver.store(UInt16(1), at: queue.available)
    _ = driver.request(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
    #expect(driver.interrupts == 0)
    driver.store(UInt16(0), at: queue.available)
    _ = driver.request(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
    #expect(driver.interrupts == 1)
    #expect(driver.load(UInt16.self, at: queue.used) == 0)
  }

  @Test("with event indices the device interrupts at the index asked for, and asks for the next request")
  func eventIndices() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue], features: .eventIndex)
    let usedEvent = queue.available + 4 + 2 * UInt64(queue.size)
    let availableEvent = queue.used + 4 + 8 * UInt64(queue.size)
    driver.store(UInt16(2), at: usedEvent)
    for expected: (UInt16, Int) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
      _ = driver.request(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
      #expect(driver.usedIndex(queue) == expected.0)
      #expect(driver.interrupts == expected.1)
      #expect(driver.load(UInt16.self, at: availableEvent) == expected.0)
    }
  }

  @Test("rings go around and indices wrap")
  func wrapping() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard(0, size: 2)
    driver.open([queue])
    for _ in 0..<70_000 {
      _ = driver.request(queue, [.init(address: 0x2_0000, length: 1, isWritable: true)])
    }
    #expect(driver.usedIndex(queue) == UInt16(truncatingIfNeeded: 70_000))
    #expect(!driver.isBroken)
  }

  @Test("indirect tables may be anywhere, aligned or not")
  func indirect() throws {
    let driver = try VirtioDriver(VirtioEntropy())
    let queue = RingPlace.standard()
    driver.open([queue], features: .indirectDescriptors)
    for table: UInt64 in [0x4_0000, 0x4_1003] {
      driver.describe(at: table, address: 0x2_0000, length: 5, flags: 3, next: 1)
      driver.describe(at: table + 16, address: 0x2_1000, length: 6, flags: 2)
      driver.describe(queue, 0, address: table, length: 32, flags: 4)
      driver.publish(queue, head: 0)
      driver.run()
      #expect(driver.usedEntry(queue, driver.usedIndex(queue) &- 1).length == 11)
    }
    #expect(!driver.isBroken)
  }

  @Test(
    "of a device with several threads each queue has its doorbell, by the number that is stored",
    .timeLimit(.minutes(15)))
  func severalDoorbells() throws {
    final class Binding: EventBinding {
      let doorbells = Mutex<[UInt64: Int32]>([:])
      func bindDoorbell(
        _ eventDescriptor: Int32, to address: GuestPhysicalAddress, width: AccessWidth, value: UInt64?
      ) throws(TechniqueFailure) {
        #expect(address.rawValue == VirtioDriver.base + VirtioDriver.Register.notify && width == .doubleword)
        guard let value else {
          Issue.record("a doorbell for all queues")
          return
        }
        doorbells.withLock { #expect($0.updateValue(eventDescriptor, forKey: value) == nil) }
      }
      func unbindDoorbell(
        _ eventDescriptor: Int32, from address: GuestPhysicalAddress, width: AccessWidth
      ) throws(TechniqueFailure) {}
      func bindPulse(_ eventDescriptor: Int32, to line: Int) throws(TechniqueFailure) {}
    }
    let links = (0..<3).map { _ in MemoryLink() }
    let driver = try VirtioDriver(try #require(VirtioNetwork(links, address: .random())), usesWorker: true)
    let binding = Binding()
    try driver.device.bind(binding, at: GuestPhysicalAddress(VirtioDriver.base))
    // Receive and transmit of each pair are one thread's, and the driver's orders the first one's.
    let doorbells = binding.doorbells.withLock { $0 }
    #expect(doorbells.keys.sorted() == Array(0...6))
    for pair: UInt64 in 0..<3 { #expect(doorbells[2 * pair] == doorbells[2 * pair + 1]) }
    #expect(doorbells[6] == doorbells[0])
    #expect(Set(doorbells.values).count == 3)
    // Rung by the host's kernel alone, the order and then each pair's frame get there.
    let transmit = [1, 3, 5].map { RingPlace.standard($0) }
    let control = RingPlace.standard(6)
    driver.open(
      [RingPlace.standard(0), RingPlace.standard(2), RingPlace.standard(4), control] + transmit,
      features: [.bit(17), .bit(22)])
    func ring(_ queue: RingPlace) throws {
      eventfd_write(try #require(doorbells[UInt64(queue.index)]), 1)
      for _ in 0..<5000 where driver.usedIndex(queue) == 0 { usleep(1000) }
      #expect(driver.usedIndex(queue) == 1)
    }
    let data: UInt64 = 0x10_0000
    driver.store([4, 0, 3, 0] as [UInt8], at: data)
    driver.describe(
      control, [.init(address: data, length: 4), .init(address: data + 0x100, length: 1, isWritable: true)])
    driver.publish(control, head: 0)
    try ring(control)
    #expect(driver.load(UInt8.self, at: data + 0x100) == 0)
    driver.store([UInt8](repeating: 0, count: 12 + 60), at: data)
    for queue in transmit {
      driver.describe(queue, [.init(address: data, length: 72)])
      driver.publish(queue, head: 0)
      try ring(queue)
    }
    #expect(links.map(\.sent.count) == [1, 1, 1])
    driver.device.stop()
  }

  @Test("a technique may bind doorbell and interrupt to eventfds", .timeLimit(.minutes(15)))
  func binding() throws {
    final class Binding: EventBinding {
      let doorbell = Atomic<Int32>(-1)
      let pulse = Atomic<Int32>(-1)
      func bindDoorbell(
        _ eventDescriptor: Int32, to address: GuestPhysicalAddress, width: AccessWidth, value: UInt64?
      ) throws(TechniqueFailure) {
        #expect(address.rawValue == VirtioDriver.base + 0x50 && width == .doubleword && value == nil)
        doorbell.store(eventDescriptor, ordering: .relaxed)
      }
      func unbindDoorbell(
        _ eventDescriptor: Int32, from address: GuestPhysicalAddress, width: AccessWidth
      ) throws(TechniqueFailure) {}
      func bindPulse(_ eventDescriptor: Int32, to line: Int) throws(TechniqueFailure) {
        #expect(line == VirtioDriver.line)
        pulse.store(eventDescriptor, ordering: .relaxed)
      }
    }
    let binding = Binding()
    let driver = try VirtioDriver(VirtioEntropy(), usesWorker: true)
    try driver.device.bind(binding, at: GuestPhysicalAddress(VirtioDriver.base))
    let queue = RingPlace.standard()
    driver.open([queue])
    driver.describe(queue, [.init(address: 0x2_0000, length: 8, isWritable: true)])
    driver.publish(queue, head: 0)
    eventfd_write(binding.doorbell.load(ordering: .relaxed), 1)
    var poller = pollfd(fd: binding.pulse.load(ordering: .relaxed), events: Int16(POLLIN), revents: 0)
    #expect(poll(&poller, 1, 10_000) == 1)
    #expect(driver.usedIndex(queue) == 1)
    #expect(driver.interrupts == 0)
    driver.device.stop()
  }

  @Test(
    "a driver that tells only when asked, and a device on its own thread, never wait for each other in vain",
    .timeLimit(.minutes(15)), arguments: [[], VirtioFeatures.eventIndex] as [VirtioFeatures])
  func noLostNotification(features: VirtioFeatures) throws {
    let driver = try VirtioDriver(VirtioEntropy(), usesWorker: true)
    let queue = RingPlace.standard(0, size: 8)
    driver.open([queue], features: features)
    for head in 0..<8 {
      driver.describe(queue, head, address: 0x2_0000 + 64 * UInt64(head), length: 4, flags: 2)
    }
    let availableEvent = queue.used + 4 + 8 * UInt64(queue.size)
    var published: UInt16 = 0
    var kicks = 0
    for round in 0..<20_000 {
      let batch = UInt16(round % 3 + 1)
      let before = published
      for _ in 0..<batch {
        driver.publish(queue, head: published % 8)
        published &+= 1
      }
      atomicMemoryFence(ordering: .sequentiallyConsistent)
      let wants =
        features.contains(.eventIndex)
        ? published &- driver.load(UInt16.self, at: availableEvent) &- 1 < published &- before
        : driver.load(UInt16.self, at: queue.used) & 1 == 0
      if wants {
        kicks += 1
        driver.kick()
      }
      while driver.usedIndex(queue) != published { sched_yield() }
    }
    driver.device.stop()
    #expect(kicks > 0)
    #expect(!driver.isBroken)
  }

  @Test("a reset waits for the request at hand, and the device starts anew", .timeLimit(.minutes(15)))
  func resetWhileBusy() throws {
    let driver = try VirtioDriver(VirtioEntropy(), usesWorker: true)
    let queue = RingPlace.standard()
    for _ in 0..<40 {
      driver.store(UInt16(0), at: queue.available + 2)
      driver.store(UInt16(0), at: queue.used + 2)
      driver.open([queue])
      for head in 0..<16 { driver.describe(queue, head, address: 0x4_0000, length: 0x1_0000, flags: 2) }
      for head: UInt16 in 0..<16 { driver.publish(queue, head: head) }
      driver.kick()
      sched_yield()
      driver.write(Register.status, 0)
      let used = driver.usedIndex(queue)
      driver.store([UInt8](repeating: 0x55, count: 0x1_0000), at: 0x4_0000)
      sched_yield()
      #expect(driver.usedIndex(queue) == used)
      #expect(driver.bytes(at: 0x4_0000, count: 0x1_0000).allSatisfy { $0 == 0x55 })
      #expect(driver.read(Register.interruptStatus) == 0)
    }
    driver.device.stop()
  }
}
