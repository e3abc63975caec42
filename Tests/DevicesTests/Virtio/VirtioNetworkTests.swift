import TrivisorDeviceFuzz
import Glibc
import Testing
import TrivisorSpoiledStates
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio network interface", .timeLimit(.minutes(15)))
struct VirtioNetworkTests {
  private static let receive = RingPlace.standard(0), transmit = RingPlace.standard(1)
  private static let merge = VirtioFeatures.bit(15)
  private static let buffers: UInt64 = 0x8_0000
  private static let headerSize = UInt64(NetworkFrameHeader.size)

  private let link: MemoryLink
  private let driver: VirtioDriver

  init() throws {
    link = MemoryLink(offloads: [.checksums, .segments4], maximumTransferUnit: 9000, deliversValidChecksums: true)
    driver = try VirtioDriver(VirtioNetwork(link, address: Self.address))
  }

  private static var address: MACAddress { MACAddress("52:54:00:12:34:56") ?? .random() }

  private func frame(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0) &* 7 &+ seed }
  }

  /// Gives the device empty buffers of the same size, from descriptor 0 on.
  private func offer(_ count: Int, size: UInt32, from first: Int = 0) {
    for index in first..<(first + count) {
      driver.describe(
        Self.receive, index, address: Self.buffers + 0x1_0000 * UInt64(index), length: size, flags: 2)
      driver.publish(Self.receive, head: UInt16(index))
    }
  }

  private func open(_ features: VirtioFeatures = []) {
    driver.open([Self.receive, Self.transmit], features: features)
  }

  private func header(at address: UInt64) -> (flags: UInt8, buffers: UInt16) {
    (driver.load(UInt8.self, at: address), driver.load(UInt16.self, at: address + 10))
  }

  @Test("what it tells of itself")
  func identity() {
    #expect(driver.read(0x08) == 1)
    #expect((0..<6).map { UInt8(driver.read(0x100 + $0, width: .byte)) } == Self.address.bytes)
    #expect(driver.read(0x106, width: .word) == 1)
    #expect(driver.read(0x10a, width: .word) == 9000)
    driver.write(0x14, 0)
    let features = VirtioFeatures(rawValue: driver.read(0x10))
    #expect(features.isSuperset(of: [.bit(0), .bit(1), .bit(3), .bit(5), .bit(7), .bit(11), .bit(15), .bit(16)]))
    #expect(features.isDisjoint(with: [.bit(8), .bit(12), .bit(13), .bit(17), .bit(22)]))
  }

  @Test("frames of the guest's, in pieces, and what is left to do about them")
  func transmit() {
    open([.bit(0), .bit(11)])
    let bytes = frame(300)
    var header = NetworkFrameHeader()
    (header.flags, header.segmentation, header.segmentSize) = (1, 1, 100)
    (header.headerLength, header.checksumStart, header.checksumOffset) = (54, 34, 16)
    var raw = [UInt8](repeating: 0, count: 12)
    raw.withUnsafeMutableBytes { header.store(to: $0) }
    driver.store(raw + bytes, at: 0x6_0000)
    #expect(
      driver.request(
        Self.transmit,
        [
          .init(address: 0x6_0000, length: 7), .init(address: 0x6_0007, length: 105),
          .init(address: 0x6_0070, length: 200),
        ]) == 0)
    #expect(link.sent == [.init(bytes: bytes, header: header)])
    #expect(driver.interrupts == 1)
  }

  @Test(
    "frames that nobody may send are lost, and break nothing",
    arguments: [
      (0, 0, 5), (0, 0, 0), (2, 0, 100), (0, 1, 100), (0, 4, 100), (0, 3, 100), (0, 0x80, 100), (1, 0, 100),
    ] as [(UInt8, UInt8, Int)])
  func unusable(flags: UInt8, segmentation: UInt8, count: Int) {
    open()
    driver.store([flags, segmentation] + [UInt8](repeating: 0, count: 10) + frame(count), at: 0x6_0000)
    #expect(driver.request(Self.transmit, [.init(address: 0x6_0000, length: UInt32(12 + count))]) == 0)
    // A flag that means something in the other direction only is nothing to mind.
    #expect(link.sent.count == (flags == 2 ? 1 : 0))
    #expect(driver.request(Self.transmit, [.init(address: 0x6_0000, length: 4)]) == 0)
    #expect(!driver.isBroken)
  }

  @Test("a link without room holds the guest's frames back, in their order")
  func backPressure() {
    open()
    driver.store([UInt8](repeating: 0, count: 12) + frame(60, 1), at: 0x6_0000)
    link.set(isFull: true)
    driver.describe(Self.transmit, [.init(address: 0x6_0000, length: 72)])
    driver.publish(Self.transmit, head: 0)
    driver.run(1)
    #expect(driver.usedIndex(Self.transmit) == 0)
    link.set(isFull: false)
    driver.device.processQueues()
    #expect(driver.usedIndex(Self.transmit) == 1)
    #expect(link.sent.map(\.bytes) == [frame(60, 1)])
  }

  @Test("a frame in one buffer; without buffers it waits in the link", arguments: [VirtioFeatures(), .bit(29)])
  func receive(features: VirtioFeatures) {
    open(features)
    link.deliver(frame(100))
    driver.device.processQueues()
    #expect(link.incomingCount == 1)
    #expect(!link.wantsFrames)
    offer(1, size: 1600)
    driver.run()
    #expect(link.incomingCount == 0)
    #expect(link.wantsFrames)
    #expect(driver.usedEntry(Self.receive, 0) == (0, 112))
    #expect(driver.bytes(at: Self.buffers + Self.headerSize, count: 100) == frame(100))
    #expect(header(at: Self.buffers) == (0, 1))
    #expect(driver.interrupts == 1)
  }

  @Test("a frame in several buffers, of which the driver finds all at once")
  func merged() {
    open(Self.merge)
    offer(2, size: 512)
    link.deliver(frame(1400))
    driver.run()
    #expect(driver.usedIndex(Self.receive) == 0)
    offer(2, size: 512, from: 2)
    driver.run()
    #expect(driver.usedIndex(Self.receive) == 3)
    #expect((0..<3).map { driver.usedEntry(Self.receive, UInt16($0)).length } == [512, 512, 388])
    #expect(header(at: Self.buffers) == (0, 3))
    let parts = [(0, 12, 500), (1, 0, 512), (2, 0, 388)].flatMap { index, offset, count in
      driver.bytes(at: Self.buffers + 0x1_0000 * UInt64(index) + UInt64(offset), count: count)
    }
    #expect(parts == frame(1400))
  }

  @Test("a frame that fits in nothing that such a driver gives is lost")
  func tooLong() {
    open()
    offer(1, size: 100)
    link.deliver(frame(100))
    link.deliver(frame(88, 9))
    driver.run()
    #expect(driver.usedIndex(Self.receive) == 1)
    #expect(driver.bytes(at: Self.buffers + Self.headerSize, count: 88) == frame(88, 9))
  }

  @Test("a frame for which a full ring of buffers has no room is lost")
  func tooLongForAll() {
    open(Self.merge)
    offer(16, size: 20)
    link.deliver(frame(1000))
    driver.run()
    #expect(link.incomingCount == 0)
    #expect(driver.usedIndex(Self.receive) == 0)
  }

  @Test("a driver that takes what is known of checksums is told that they are right")
  func checksums() {
    open(.bit(1))
    #expect(link.guestOffloads == .checksums)
    offer(2, size: 1600)
    link.deliver(frame(100))
    var header = NetworkFrameHeader()
    (header.flags, header.checksumStart) = (1, 34)
    link.deliver(frame(100), header)
    driver.run()
    #expect(self.header(at: Self.buffers).flags == 2)
    #expect(self.header(at: Self.buffers + 0x1_0000).flags == 1)
    open()
    #expect(link.guestOffloads == [])
  }

  @Test("a buffer without room for the header breaks the device")
  func tinyBuffer() {
    open(Self.merge)
    offer(1, size: 8)
    link.deliver(frame(100))
    driver.run()
    #expect(driver.device.fault == .malformedRequest)
    driver.device.processQueues()
    #expect(!link.wantsFrames)
  }

  @Test("the link's state is the interface's")
  func status() {
    open()
    link.set(isUp: false)
    driver.device.processQueues()
    #expect(driver.read(0x106, width: .word) == 0)
    #expect(driver.read(VirtioDriver.Register.interruptStatus) == 2)
    #expect(driver.read(0xfc) == 1)
  }

  @Test("tables over one another, by which a ring says for ever that it has more, keep no thread")
  func overlappingTables() throws {
    // What the device tells the driver, to notify or not, is the index of what the driver has published.
    func overlapping(_ index: Int) -> RingPlace {
      var place = RingPlace.standard(index)
      place.used = place.available + 4
      place.available = place.used - 2
      return place
    }
    let receive = overlapping(0)
    let driver = try VirtioDriver(VirtioNetwork(link, address: Self.address), usesWorker: true)
    driver.open([receive, overlapping(1)], features: Self.merge)
    driver.describe(receive, 0, address: Self.buffers, length: 64, flags: 2)
    link.deliver(frame(1000))
    for queue in 0...1 { driver.kick(queue) }
    usleep(50_000)
    // The reset and the end wait for the thread.
    driver.write(VirtioDriver.Register.status, 0)
    driver.open([overlapping(0), overlapping(1)], features: Self.merge)
    for queue in 0...1 { driver.kick(queue) }
    driver.device.stop()
    #expect(link.sent.isEmpty)
  }

  private static let pairFeatures: VirtioFeatures = [.bit(17), .bit(22)]

  /// - Parameter order: class, command, and what follows.
  /// - Returns: the answer.
  private func order(_ driver: VirtioDriver, _ order: [UInt8], queue: RingPlace) -> UInt8 {
    driver.store(order, at: 0x6_0000)
    driver.store(UInt8(0xff), at: 0x6_0100)
    #expect(
      driver.request(
        queue,
        [
          .init(address: 0x6_0000, length: UInt32(order.count)),
          .init(address: 0x6_0100, length: 1, isWritable: true),
        ]) == 1)
    return driver.load(UInt8.self, at: 0x6_0100)
  }

  @Test("several pairs of queues: one is in use until the driver orders otherwise")
  func pairs() throws {
    let links = (0..<3).map { _ in MemoryLink() }
    let driver = try VirtioDriver(try #require(VirtioNetwork(links, address: Self.address)))
    driver.write(0x14, 0)
    #expect(VirtioFeatures(rawValue: driver.read(0x10)).isSuperset(of: Self.pairFeatures))
    #expect(driver.read(0x108, width: .word) == 3)
    let (secondReceive, secondTransmit, control) = (RingPlace.standard(2), RingPlace.standard(3), RingPlace.standard(6))
    driver.open([Self.receive, Self.transmit, secondReceive, secondTransmit, control], features: Self.pairFeatures)
    #expect(links.map(\.takesPart) == [true, false, false])
    driver.describe(secondReceive, 0, address: Self.buffers, length: 1600, flags: 2)
    driver.publish(secondReceive, head: 0)
    links[1].deliver(frame(100))
    driver.run(2)
    #expect(driver.usedIndex(secondReceive) == 0)
    for wrong: [UInt8] in [[4, 0, 0, 0], [4, 0, 4, 0], [4, 0, 2], [4, 1, 2, 0], [1, 0, 2, 0]] {
      #expect(order(driver, wrong, queue: control) == 1)
    }
    #expect(order(driver, [4, 0, 2, 0], queue: control) == 0)
    #expect(links.map(\.takesPart) == [true, true, false])
    driver.device.processQueues()
    #expect(driver.usedIndex(secondReceive) == 1)
    #expect(driver.bytes(at: Self.buffers + Self.headerSize, count: 100) == frame(100))
    driver.store([UInt8](repeating: 0, count: 12) + frame(60), at: 0x6_0000)
    #expect(driver.request(secondTransmit, [.init(address: 0x6_0000, length: 72)]) == 0)
    #expect(links.map { $0.sent.map(\.bytes) } == [[], [frame(60)], []])
    let saved = driver.device.save()
    let others = (0..<3).map { _ in MemoryLink() }
    let other = try VirtioDriver(try #require(VirtioNetwork(others, address: .random())))
    try other.memory.restore(driver.memory.save())
    try other.device.restore(throughJSON(saved))
    #expect(others.map(\.takesPart) == [true, true, false])
    let single = try VirtioDriver(VirtioNetwork(MemoryLink(), address: .random()))
    #expect(throws: RestoreFailure.self) { try single.device.restore(saved) }
    driver.write(VirtioDriver.Register.status, 0)
    #expect(links.map(\.takesPart) == [true, false, false])
    #expect(!driver.isBroken)
  }

  @Test("with a driver that does not know of pairs, the third queue is for orders")
  func pairsUnknown() throws {
    let links = (0..<2).map { _ in MemoryLink() }
    let driver = try VirtioDriver(try #require(VirtioNetwork(links, address: Self.address)))
    let control = RingPlace.standard(2)
    driver.open([Self.receive, Self.transmit, control], features: .bit(17))
    #expect(order(driver, [1, 0, 2, 0], queue: control) == 1)
    driver.open([Self.receive, Self.transmit])
    driver.store([UInt8](repeating: 0, count: 12) + frame(60), at: 0x6_0000)
    #expect(driver.request(Self.transmit, [.init(address: 0x6_0000, length: 72)]) == 0)
    #expect(links.map(\.sent.count) == [1, 0])
  }

  @Test("a thread for each pair")
  func pairThreads() throws {
    let links = (0..<2).map { _ in MemoryLink() }
    let driver = try VirtioDriver(try #require(VirtioNetwork(links, address: Self.address)), usesWorker: true)
    let (second, control) = (RingPlace.standard(2), RingPlace.standard(4))
    driver.open([Self.receive, Self.transmit, second, RingPlace.standard(3), control], features: Self.pairFeatures)
    driver.describe(second, 0, address: 0x9_0000, length: 1600, flags: 2)
    driver.publish(second, head: 0)
    driver.store([4, 0, 2, 0] as [UInt8], at: 0x7_0000)
    driver.describe(
      control, [.init(address: 0x7_0000, length: 4), .init(address: 0x7_0100, length: 1, isWritable: true)])
    driver.publish(control, head: 0)
    driver.kick(4)
    for _ in 0..<5000 where driver.usedIndex(control) == 0 { usleep(1000) }
    links[1].deliver(frame(100))
    for _ in 0..<5000 where driver.usedIndex(second) == 0 { usleep(1000) }
    #expect(driver.usedIndex(second) == 1)
    driver.device.stop()
  }

  @Test("its thread waits for both sides, and does nothing while it waits")
  func worker() throws {
    let driver = try VirtioDriver(VirtioNetwork(link, address: Self.address), usesWorker: true)
    driver.open([Self.receive, Self.transmit])
    driver.describe(Self.receive, 0, address: Self.buffers, length: 1600, flags: 2)
    driver.publish(Self.receive, head: 0)
    driver.kick()
    usleep(20_000)
    link.deliver(frame(100))
    for _ in 0..<5000 where driver.usedIndex(Self.receive) == 0 { usleep(1000) }
    #expect(driver.usedIndex(Self.receive) == 1)
    driver.device.stop()
  }

  @Test("a restored interface has its address, and goes on with its rings")
  func saved() throws {
    open(Self.merge)
    offer(3, size: 512)
    link.deliver(frame(100))
    driver.run()
    let other = MemoryLink(offloads: [.checksums, .segments4], maximumTransferUnit: 9000)
    let second = try VirtioDriver(VirtioNetwork(other, address: .random()))
    try second.memory.restore(driver.memory.save())
    try second.device.restore(throughJSON(driver.device.save()))
    #expect((0..<6).map { UInt8(second.read(0x100 + $0, width: .byte)) } == Self.address.bytes)
    other.deliver(frame(60, 3))
    second.device.processQueues()
    #expect(second.usedIndex(Self.receive) == 2)
    #expect(second.bytes(at: Self.buffers + 0x1_000c, count: 60) == frame(60, 3))
    let narrow = MemoryLink(offloads: [.checksums, .segments4], maximumTransferUnit: 1500)
    let third = try VirtioDriver(VirtioNetwork(narrow, address: .random()))
    #expect(throws: RestoreFailure.self) { try third.device.restore(driver.device.save()) }
    let plain = try VirtioDriver(VirtioNetwork(MemoryLink(maximumTransferUnit: 9000), address: .random()))
    open(.bit(11))
    #expect(throws: RestoreFailure.self) { try plain.device.restore(driver.device.save()) }
  }
}
