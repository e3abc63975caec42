import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

@testable import TrivisorDevices

/// A guest that does anything, with a preference for what is nearly right: most requests are sound but for a detail.
private struct RandomGuest {
  /// Tables and buffers are within this; behind it nothing may change.
  static let playground: UInt64 = 0x4_0000
  static let memorySize: UInt64 = 2 << 20
  /// Queues' tables are below, requests' headers and data above.
  private static let buffers: UInt64 = 0x1_0000
  private static let bufferMaximum: UInt64 = 0x2000

  /// VIRTIO_NET_F_MQ and the queue for its orders (virtio 1.2, 5.1.3).
  static let severalPairs: VirtioFeatures = [.bit(22), .bit(17)]

  let driver: VirtioDriver
  var generator: SeededGenerator
  private let queueCount: Int
  /// Which the driver accepts half the time.
  private let features: VirtioFeatures
  private var queues: [RingPlace] = []
  /// What was said to be wrong, for the tests' own sake.
  private(set) var faults: Set<String> = []
  private(set) var requests = 0

  init(_ driver: VirtioDriver, queueCount: Int, features: VirtioFeatures = [], seed: UInt64) {
    self.driver = driver
    self.features = features
    self.queueCount = queueCount
    generator = SeededGenerator(seed: seed)
  }

  private mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int.random(in: 0..<values.count, using: &generator)]
  }
  private mutating func chance(_ one: Int) -> Bool { Int.random(in: 0..<one, using: &generator) == 0 }
  private mutating func number(below limit: UInt64) -> UInt64 { UInt64.random(in: 0..<limit, using: &generator) }

  /// A place that is in the playground, or no memory at all.
  private mutating func address() -> UInt64 {
    if chance(60) { return pick([Self.memorySize, 1 << 32, UInt64.max, UInt64.max - 15]) }
    return Self.buffers + number(below: Self.playground - Self.buffers - Self.bufferMaximum)
  }

  mutating func openQueues() {
    let features: [VirtioFeatures] = [[], .eventIndex, .indirectDescriptors, [.eventIndex, .indirectDescriptors]]
    do { try driver.memory.clear(GuestPhysicalAddress(0), count: Self.buffers) } catch { Issue.record("\(error)") }
    queues = (0..<queueCount).map { index in
      let base = 0x4000 * UInt64(index)
      var place = RingPlace(
        index: index, size: pick([1, 2, 4, 8, 16, 64]), descriptors: base, available: base + 0x1000,
        used: base + 0x2000)
      if chance(20) { place.size = UInt16(number(below: 300)) }
      if chance(20) { place.descriptors = address() }
      if chance(20) { place.available = address() & ~1 }
      if chance(20) { place.used = address() & ~3 }
      return place
    }
    driver.negotiate(pick(features).union(chance(2) ? self.features : []))
    for queue in queues { driver.place(queue) }
    driver.start()
  }

  /// A descriptor with data, or with what a block device takes for a request.
  private mutating func describe(_ place: UInt64, isWritable: Bool, successor: UInt16?) {
    var flags: UInt16 = (isWritable ? 2 : 0) | (successor == nil ? 0 : 1)
    var next = successor ?? 0
    let length = pick([0, 1, 16, 17, 511, 512, 513, 1024, 4096, number(below: Self.bufferMaximum)])
    let buffer = address()
    if chance(40) { flags ^= 1 << UInt16(number(below: 4)) }
    if chance(40) { next = UInt16(number(below: 0x1_0000)) }
    driver.describe(at: place, address: buffer, length: UInt32(length), flags: flags, next: next)
  }

  private mutating func describeHeader(_ place: UInt64, successor: UInt16?) {
    if driver.read(0x8) == UInt64(VirtioDeviceID.socket.rawValue) { return describePacket(place, successor: successor) }
    let header = Self.buffers + 16 * number(below: 256)
    if features.contains(Self.severalPairs), chance(2) {
      // How many pairs of queues are in use.
      driver.store(4 | number(below: 4) << 16, at: header)
      return driver.describe(
        at: place, address: header, length: 4, flags: successor == nil ? 0 : 1, next: successor ?? 0)
    }
    driver.store(UInt32(truncatingIfNeeded: pick([0, 1, 1, 4, 8, 11, 13, number(below: 1 << 32)])), at: header)
    driver.store(chance(8) ? generator.next() : number(below: 20), at: header + 8)
    driver.describe(at: place, address: header, length: 16, flags: successor == nil ? 0 : 1, next: successor ?? 0)
  }

  /// The head of a socket device's packet, with its data in the next piece.
  private mutating func describePacket(_ place: UInt64, successor: UInt16?) {
    let header = Self.buffers + 64 * number(below: 256)
    driver.store(chance(20) ? number(below: 6) : SocketDriver.guest, at: header)
    driver.store(chance(20) ? number(below: 6) : SocketPacket.hostIdentifier, at: header + 8)
    driver.store(UInt32(pick([5, 6, 7, 8, 1024])), at: header + 16)
    driver.store(UInt32(chance(2) ? 7 : (1 << 30) + number(below: 40)), at: header + 20)
    driver.store(
      UInt32(truncatingIfNeeded: pick([0, 0, 1, 511, 4096, 1 << 16, number(below: 1 << 32)])), at: header + 24)
    driver.store(UInt16(chance(20) ? 2 : 1), at: header + 28)
    driver.store(UInt16(pick([1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, number(below: 10)])), at: header + 30)
    driver.store(UInt32(number(below: 5)), at: header + 32)
    driver.store(UInt32(truncatingIfNeeded: pick([0, 100, 1 << 16, generator.next()])), at: header + 36)
    driver.store(UInt32(truncatingIfNeeded: pick([0, 0, 100, generator.next()])), at: header + 40)
    driver.describe(at: place, address: header, length: 44, flags: successor == nil ? 0 : 1, next: successor ?? 0)
  }

  /// A chain in the queue's table or in an indirect one, and its publication.
  private mutating func request() {
    let queue = pick(queues)
    guard queue.size > 0, queue.descriptors < Self.playground, queue.available < Self.playground else { return }
    requests += 1
    let isIndirect = chance(4)
    let table = isIndirect ? Self.buffers + 8 * number(below: 512) : queue.descriptors
    let count = isIndirect ? 1 + number(below: 6) : min(1 + number(below: 5), UInt64(queue.size))
    let readable = number(below: count + 1)
    for index in 0..<count {
      let successor = index + 1 < count ? UInt16(index + 1) : nil
      let place = table + 16 * index
      if index == 0, readable > 0, chance(2) {
        describeHeader(place, successor: successor)
      } else {
        describe(place, isWritable: index >= readable, successor: successor)
      }
    }
    if isIndirect {
      driver.describe(
        at: queue.descriptors, address: table, length: UInt32(16 * count), flags: chance(10) ? 5 : 4, next: 0)
    }
    driver.publish(queue, head: chance(60) ? UInt16(number(below: 0x1_0000)) : 0)
    if chance(60) { driver.publish(queue, head: 0) }
  }

  /// Anything anywhere.
  private mutating func disturb() {
    switch number(below: 6) {
    case 0:
      let value = chance(2) ? number(below: 256) : generator.next()
      driver.write(number(below: 0x200), value, width: pick(AccessWidth.allCases))
    case 1: _ = driver.read(number(below: 0x1000), width: pick(AccessWidth.allCases))
    case 2: driver.store(UInt16(number(below: 20)), at: 2 * number(below: Self.buffers / 2))
    case 3: driver.store(generator.next(), at: 8 * number(below: Self.playground / 8))
    case 4: driver.write(VirtioDriver.Register.queueReady, number(below: 2))
    default: openQueues()
    }
  }

  mutating func step() {
    if let fault = driver.device.fault {
      faults.insert(String("\(fault)".prefix { $0 != "(" }))
      if chance(3) { openQueues() }
    }
    for _ in 0...number(below: 3) { request() }
    driver.run(Int(number(below: UInt64(queueCount) + 1)))
    driver.write(VirtioDriver.Register.interruptAcknowledge, number(below: 4))
    if chance(8) { disturb() }
  }
}

/// Steps of each random driver. For longer than the suite takes: `TRIVISOR_FUZZ_STEPS=1000000 swift test --filter
/// VirtioFuzzTests`, some inputs a step.
private let stepCount = getenv("TRIVISOR_FUZZ_STEPS").flatMap { Int(String(cString: $0)) } ?? 2000
/// So that another run tries something else.
private let firstSeed = getenv("TRIVISOR_FUZZ_SEED").flatMap { UInt64(String(cString: $0)) } ?? 0

@Suite("Random drivers", .timeLimit(.minutes(stepCount / 10_000 + 15)))
struct VirtioFuzzTests {
  /// Of this process, by /proc/self/statm.
  private var residentPages: Int {
    var text = [UInt8](repeating: 0, count: 256)
    let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    let count = max(0, read(file, &text, text.count))
    return String(decoding: text[..<count], as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) }
      ?? 0
  }

  /// Whatever the guest does: no trap, no endless work, nothing written outside what it can reach.
  private func fuzz(
    _ type: any VirtioDevice, memory: GuestMemory? = nil, features: VirtioFeatures = [], seed: UInt64,
    between: (inout SeededGenerator) -> Void = { _ in }
  ) throws {
    let driver = try VirtioDriver(type, memorySize: RandomGuest.memorySize, memory: memory)
    var guest = RandomGuest(driver, queueCount: type.queueSizes.count, features: features, seed: seed &+ firstSeed)
    var resident = 0
    guest.openQueues()
    for step in 0..<stepCount {
      guest.step()
      between(&guest.generator)
      if step == 1000 { resident = residentPages }
    }
    if stepCount > 2000 {
      print("\(type.deviceID), seed \(seed): \(guest.requests) requests, \(guest.faults.count) kinds of faults")
      // Nothing grows: 32 MiB are for what other drivers do meanwhile.
      #expect(residentPages - resident < 8192)
    }
    let untouched = RandomGuest.playground
    let rest = Int(RandomGuest.memorySize - untouched)
    #expect(driver.bytes(at: untouched, count: rest).allSatisfy { $0 == 0 })
    // Else this would test nothing: many requests were served, and faults of most kinds were found.
    #expect(driver.interrupts > guest.requests / 20)
    #expect(guest.faults.count >= 6)
    // The device lives on.
    driver.memory.clearPlayground()
    let queues = (0..<type.queueSizes.count).map {
      RingPlace(
        index: $0, size: 4, descriptors: 0x1000 * UInt64($0), available: 0x400 + 0x1000 * UInt64($0),
        used: 0x800 + 0x1000 * UInt64($0))
    }
    driver.open(queues)
    #expect(driver.status == 15)
  }

  @Test("entropy", arguments: 1...5 as ClosedRange<UInt64>)
  func entropy(seed: UInt64) throws { try fuzz(VirtioEntropy(), seed: seed) }

  @Test("console", arguments: 1...5 as ClosedRange<UInt64>, [false, true])
  func console(seed: UInt64, hasSize: Bool) throws {
    let console = VirtioConsole(sink: MemorySink(limit: 1024), size: hasSize ? .init(columns: 80, rows: 25) : nil)
    try fuzz(console, seed: seed) { generator in
      if UInt8.random(in: 0..<4, using: &generator) == 0 {
        _ = console.receive(Array(repeating: 0x78, count: Int.random(in: 0..<300, using: &generator)))
      }
    }
  }

  @Test("block", arguments: 1...5 as ClosedRange<UInt64>, [false, true])
  func block(seed: UInt64, isReadOnly: Bool) throws {
    let content = [UInt8](repeating: 0, count: 16 * 512)
    let file = try TemporaryFile(content)
    let image = try DiskImage(path: file.path, isReadOnly: isReadOnly)
    try fuzz(VirtioBlock(image, identifier: "fuzz"), seed: seed)
    #expect(file.content.count == content.count)
    if isReadOnly { #expect(file.content == content) }
  }

  @Test("block with several queues and changes apart from the image", arguments: 1...3 as ClosedRange<UInt64>)
  func blockSnapshot(seed: UInt64) throws {
    let content = [UInt8](repeating: 0, count: 16 * 512)
    let file = try TemporaryFile(content)
    let image = try DiskImage(path: file.path, isReadOnly: false, changes: DiskChanges())
    try fuzz(VirtioBlock(image, identifier: "fuzz", queueCount: 3), seed: seed)
    #expect(file.content == content)
  }

  @Test("balloon", arguments: 1...5 as ClosedRange<UInt64>)
  func balloon(seed: UInt64) throws {
    let memory = try GuestMemory(size: RandomGuest.memorySize)
    let balloon = try VirtioBalloon(memory, size: 1 << 20)
    try fuzz(balloon, memory: memory, seed: seed) { generator in
      if UInt8.random(in: 0..<8, using: &generator) == 0 {
        balloon.resize(to: UInt64.random(in: 0..<4 << 20, using: &generator))
        _ = balloon.report()
      }
    }
  }

  @Test("sockets", arguments: 1...5 as ClosedRange<UInt64>)
  func sockets(seed: UInt64) throws {
    let path = SocketDriver.freshPath()
    let listener = try HostProgram.listening(path, port: 7)
    defer { unlink("\(path)_7") }
    let sockets = try VirtioSocket(SocketGate(path: path), identifier: SocketDriver.guest)
    var programs: [HostProgram] = []
    try fuzz(sockets, seed: seed) { generator in
      switch UInt8.random(in: 0..<16, using: &generator) {
      case 0:
        if programs.count < 8, let program = try? HostProgram.connecting(path) {
          program.write("CONNECT \(UInt8.random(in: 5...8, using: &generator))\n")
          programs.append(program)
        }
      case 1: if !programs.isEmpty { programs.remove(at: Int.random(in: 0..<programs.count, using: &generator)) }
      case 2: _ = programs.last.map { send($0.raw, "text", 4, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
      default: break
      }
    }
    programs = []
    withExtendedLifetime(listener) {}
  }

  @Test("network", arguments: 1...5 as ClosedRange<UInt64>)
  func network(seed: UInt64) throws {
    let link = MemoryLink(offloads: [.checksums, .segments4, .segments6], maximumTransferUnit: 65_520)
    try fuzz(VirtioNetwork(link, address: .random()), seed: seed) { generator in
      if link.incomingCount < 8 {
        link.deliver([UInt8](repeating: 0x78, count: Int.random(in: 14..<3000, using: &generator)))
      }
      link.set(isFull: UInt8.random(in: 0..<8, using: &generator) == 0)
      if UInt8.random(in: 0..<16, using: &generator) == 0 { link.set(isUp: Bool.random(using: &generator)) }
    }
  }

  @Test("network with several pairs of queues", arguments: 1...5 as ClosedRange<UInt64>)
  func networkPairs(seed: UInt64) throws {
    let links = (0..<2).map { _ in MemoryLink(maximumTransferUnit: 65_520) }
    let device = try #require(VirtioNetwork(links, address: .random()))
    try fuzz(device, features: RandomGuest.severalPairs, seed: seed) { generator in
      for link in links where link.incomingCount < 8 {
        link.deliver([UInt8](repeating: 0x78, count: Int.random(in: 14..<3000, using: &generator)))
      }
      links[1].set(isFull: UInt8.random(in: 0..<8, using: &generator) == 0)
    }
  }

  @Test("a ring that changes while it is looked at", arguments: 1...4 as ClosedRange<UInt64>)
  func concurrentChange(seed: UInt64) throws {
    let file = try TemporaryFile([UInt8](repeating: 0, count: 16 * 512))
    let image = try DiskImage(path: file.path, isReadOnly: false)
    let driver = try VirtioDriver(VirtioBlock(image, identifier: "fuzz"), usesWorker: true)
    var guest = RandomGuest(driver, queueCount: 1, seed: seed)
    let scribbler = OwnThread {
      var generator = SeededGenerator(seed: seed &+ 1000)
      for _ in 0..<60_000 {
        let place = UInt64.random(in: 0..<(RandomGuest.playground / 8), using: &generator) * 8
        driver.store(UInt64.random(in: 0..<0x4_0000, using: &generator), at: place)
      }
    }
    guest.openQueues()
    for _ in 0..<2000 { guest.step() }
    scribbler.join()
    driver.device.stop()
    let rest = Int(RandomGuest.memorySize - RandomGuest.playground)
    #expect(driver.bytes(at: RandomGuest.playground, count: rest).allSatisfy { $0 == 0 })
  }
}

extension GuestMemory {
  /// What random guests have used.
  fileprivate func clearPlayground() {
    do { try clear(GuestPhysicalAddress(0), count: RandomGuest.playground) } catch { Issue.record("\(error)") }
  }
}
