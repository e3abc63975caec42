import Synchronization
import Testing
import TrivisorDevices
import TrivisorVMM

@testable import TrivisorXenDomain

/// A network interface by Xen's front ends' rules, spoken to as one.
struct NetworkBackEndTests {
  /// Frames in memory.
  private final class Wire: NetworkLink {
    private struct State {
      var incoming: [[UInt8]] = []
      var sent: [(bytes: [UInt8], header: NetworkFrameHeader)] = []
      var isFull = false
      var wantsFrames = false
    }

    private let state = Mutex(State())
    let offloads: NetworkOffloads = .checksums
    let maximumTransferUnit: UInt16 = 65_520
    let deliversValidChecksums = true
    let isUp = true
    let eventDescriptor: Int32 = -1

    var sent: [(bytes: [UInt8], header: NetworkFrameHeader)] { state.withLock { $0.sent } }
    var incomingCount: Int { state.withLock { $0.incoming.count } }
    var wantsFrames: Bool { state.withLock { $0.wantsFrames } }
    func deliver(_ frame: [UInt8]) { state.withLock { $0.incoming.append(frame) } }
    func set(isFull: Bool) { state.withLock { $0.isFull = isFull } }

    func settle() {}
    func setWantsFrames(_ wants: Bool) { state.withLock { $0.wantsFrames = wants } }
    func setGuestOffloads(_ offloads: NetworkOffloads) {}
    func close() {}

    func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool {
      state.withLock { state in
        guard !state.isFull else { return false }
        var bytes = [UInt8](repeating: 0, count: frame.byteCount)
        _ = bytes.withUnsafeMutableBytes { frame.read(into: $0) }
        state.sent.append((bytes, header))
        return true
      }
    }

    func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {
      while let first = state.withLock({ $0.incoming.first }) {
        guard first.withUnsafeBytes({ take($0, NetworkFrameHeader()) }) else { return }
        state.withLock { _ = $0.incoming.removeFirst() }
      }
    }
  }

  private static let front = "/local/domain/1/device/vif/0"
  private static let back = "/local/domain/0/backend/vif/1/0"

  /// A front end: its rings are pages 20 and 21, its data pages 22 and 23, granted to domain 0 as 8 to 11.
  private struct FrontEnd {
    let harness: DomainHarness
    let wire = Wire()
    var port: UInt32 = 0
    var sent: UInt32 = 0
    var offered: UInt32 = 0

    init(is64Bit: Bool = true) throws {
      harness = try DomainHarness(
        is64Bit: is64Bit, networks: [NetworkInterface(wire, address: MACAddress("52:54:00:00:00:01") ?? .random())])
      for reference in 8..<12 as Range<UInt32> {
        let entry = try #require(harness.domain.grants.entry(reference))
        entry.storeBytes(of: harness.frame(UInt64(reference) + 12) << 32 | 1, as: UInt64.self)
      }
    }

    func state(of path: String) -> String? { harness.domain.store.text("\(path)/state") }

    /// As the store does when the domain has written to it.
    func set(_ name: String, _ value: String) {
      harness.domain.store.set("\(NetworkBackEndTests.front)/\(name)", value)
      NetworkService(domain: harness.domain).attend()
    }

    mutating func connect(pieces: Bool = true) throws {
      let place = harness.address(0)
      try harness.store(UInt16(0x7ff0), place)
      try harness.store(UInt16(0), place + 2)
      #expect(harness.call(32, 6, place) == 0)
      port = try harness.load(UInt32.self, place + 4)
      set("tx-ring-ref", "8")
      set("rx-ring-ref", "9")
      set("event-channel", "\(port)")
      set("request-rx-copy", "1")
      set("feature-sg", pieces ? "1" : "0")
      set("state", "4")
    }

    func notify() throws {
      try harness.store(port, harness.address(0))
      #expect(harness.call(32, 4, harness.address(0)) == 0)
    }

    mutating func send(_ pieces: [(reference: UInt32, offset: UInt16, flags: UInt16, size: UInt16)]) throws {
      for piece in pieces {
        let place = harness.address(20) + 64 + UInt64(sent % 256) * 12
        try harness.store(piece.reference, place)
        try harness.store(piece.offset, place + 4)
        try harness.store(piece.flags, place + 6)
        try harness.store(UInt16(truncatingIfNeeded: 100 + sent), place + 8)
        try harness.store(piece.size, place + 10)
        sent &+= 1
      }
      try harness.store(sent, harness.address(20))
      try notify()
    }

    /// What was answered to a piece: its number and how it went.
    func answer(_ number: UInt32) throws -> (identifier: UInt16, status: Int16) {
      let place = harness.address(20) + 64 + UInt64(number % 256) * 12
      return (try harness.load(UInt16.self, place), try harness.load(Int16.self, place + 2))
    }

    var answered: UInt32 { get throws { try harness.load(UInt32.self, harness.address(20) + 8) } }
    var received: UInt32 { get throws { try harness.load(UInt32.self, harness.address(21) + 8) } }

    mutating func offer(_ reference: UInt32) throws {
      let place = harness.address(21) + 64 + UInt64(offered % 256) * 8
      try harness.store(UInt16(truncatingIfNeeded: offered), place)
      try harness.store(reference, place + 4)
      offered &+= 1
      try harness.store(offered, harness.address(21))
    }

    func buffer(_ number: UInt32) throws -> (flags: UInt16, size: Int16) {
      let place = harness.address(21) + 64 + UInt64(number % 256) * 8
      return (try harness.load(UInt16.self, place + 4), try harness.load(Int16.self, place + 6))
    }

    func fill(_ page: UInt64, from start: UInt64, _ bytes: [UInt8]) throws {
      for (index, byte) in bytes.enumerated() { try harness.store(byte, harness.address(page) + start + UInt64(index)) }
    }
  }

  private func frame(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) } }

  @Test("found in the store, connected, frames in both directions, closed, and once more", arguments: [true, false])
  func life(is64Bit: Bool) throws {
    var front = try FrontEnd(is64Bit: is64Bit)
    let harness = front.harness
    #expect(harness.domain.store.text("\(Self.front)/mac") == "52:54:00:00:00:01")
    #expect(front.state(of: Self.back) == "2")
    try front.connect()
    #expect(front.state(of: Self.back) == "4")
    let bytes = frame(300)
    try front.fill(22, from: 4000, Array(bytes[..<96]))
    try front.fill(23, from: 0, Array(bytes[96...]))
    try front.send([(10, 4000, 4, 300), (11, 0, 0, 204)])
    #expect(front.wire.sent.map { $0.bytes } == [bytes])
    #expect(try front.answered == 2)
    #expect(try front.answer(1) == (101, 0))
    front.wire.deliver(frame(5000))
    front.wire.deliver(frame(60))
    try front.offer(10)
    try front.notify()
    #expect(try front.received == 0)
    #expect(!front.wire.wantsFrames)
    try front.offer(11)
    try front.offer(10)
    try front.notify()
    #expect(try front.received == 3)
    #expect(front.wire.wantsFrames)
    #expect(try front.buffer(0) == (1 | 4, 4096))
    #expect(try front.buffer(1) == (0, 904))
    #expect(try front.buffer(2) == (1, 60))
    let second = try (0..<904).map { try harness.load(UInt8.self, harness.address(23) + UInt64($0)) }
    #expect(second == Array(frame(5000)[4096...]))
    // More rounds than the ring has places.
    for _ in 0..<300 { try front.send([(10, 0, 0, 60)]) }
    #expect(try front.answered == 302)
    front.set("state", "5")
    front.set("state", "6")
    #expect(front.state(of: Self.back) == "6")
    #expect(harness.domain.grants.table.uses.isEmpty)
    front.set("state", "1")
    #expect(front.state(of: Self.back) == "2")
  }

  @Test("a link without room holds the frames back")
  func backPressure() throws {
    var front = try FrontEnd()
    try front.connect()
    front.wire.set(isFull: true)
    try front.send([(10, 0, 0, 60)])
    #expect(try front.answered == 0)
    front.wire.set(isFull: false)
    try front.notify()
    #expect(try front.answered == 1)
  }

  @Test("a checksum that is to be completed is found in the frame")
  func checksum() throws {
    var front = try FrontEnd()
    try front.connect()
    var packet = [UInt8](repeating: 0, count: 60)
    packet.replaceSubrange(12..<15, with: [0x08, 0, 0x45])
    packet[23] = 17
    try front.fill(22, from: 0, packet)
    try front.send([(10, 0, 3, 60)])
    let header = try #require(front.wire.sent.first?.header)
    #expect((header.flags, header.checksumStart, header.checksumOffset) == (1, 34, 6))
    // What has none goes as it is.
    packet[23] = 1
    try front.fill(22, from: 0, packet)
    try front.send([(10, 0, 3, 60)])
    #expect(front.wire.sent.last?.header.flags == 0)
  }

  @Test("frames that can't be are errors of their own, and the next one goes")
  func refusals() throws {
    var front = try FrontEnd()
    try front.connect()
    let bad: [[(reference: UInt32, offset: UInt16, flags: UInt16, size: UInt16)]] = [
      [(10, 4090, 0, 60)], [(10, 0, 0, 5)], [(400, 0, 0, 60)], [(60_000, 0, 0, 60)], [(10, 0, 4, 60), (11, 0, 0, 60)],
      [(10, 0, 8, 60), (0, 0, 0, 0)], [(10, 0, 0, 5000)],
    ]
    var count: UInt32 = 0
    for pieces in bad {
      try front.send(pieces)
      #expect(try front.answer(count).status == -1)
      count += UInt32(pieces.count)
      #expect(try front.answered == count)
    }
    #expect(front.wire.sent.isEmpty)
    // The rest of a frame that never comes is waited for.
    try front.send([(10, 0, 4, 60)])
    #expect(try front.answered == count)
    try front.send([(11, 0, 0, 20)])
    #expect(try front.answered == count + 2)
    #expect(front.wire.sent.count == 1)
    // Nothing is received into what is not writable.
    front.wire.deliver(frame(60))
    try front.offer(400)
    try front.notify()
    #expect(try front.buffer(0).size == -1)
  }

  @Test("a front end that lies about its rings or its port is not connected, or harms nobody else")
  func lies() throws {
    var front = try FrontEnd()
    for (name, value) in [
      ("tx-ring-ref", "8"), ("rx-ring-ref", "400"), ("event-channel", "1"), ("request-rx-copy", "1"),
    ] {
      front.set(name, value)
    }
    front.set("state", "4")
    #expect(front.state(of: Self.back) == "2")
    front.set("state", "1")
    try front.connect()
    let harness = front.harness
    try harness.store(UInt32(0x8000_0000), harness.address(20))
    try harness.store(UInt32(0x8000_0000), harness.address(21))
    front.wire.deliver(frame(60))
    for _ in 0..<4 { try front.notify() }
    try harness.store(front.port, harness.address(0))
    #expect(harness.call(32, 3, harness.address(0)) == 0)
    #expect(harness.domain.networks[0].connection == nil)
    #expect(harness.domain.grants.table.uses.isEmpty)
  }

  @Test("saved and restored with its rings")
  func saved() throws {
    var front = try FrontEnd()
    try front.connect()
    try front.send([(10, 0, 0, 60)])
    let harness = front.harness
    let saved = harness.domain.save()
    let doorbells = [DomainHarness.Doorbell(), DomainHarness.Doorbell()]
    let restored = try Domain(
      saved, memory: harness.memory, console: harness.sink, doorbells: doorbells,
      networks: [NetworkInterface(Wire(), address: .random())], reference: TimeReference())
    #expect(restored.save().networks == saved.networks)
    #expect(restored.grants.table.uses[9]?.user == 0)
    #expect(throws: RestoreFailure.self) {
      try Domain(
        saved, memory: harness.memory, console: harness.sink, doorbells: doorbells, reference: TimeReference())
    }
  }
}
