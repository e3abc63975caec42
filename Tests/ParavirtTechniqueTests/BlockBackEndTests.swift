import TrivisorBoot
import TrivisorDevices
import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// A disk by Xen's front ends' rules, spoken to as one.
struct BlockBackEndTests {
  /// Sixteen sectors in memory.
  private final class Storage: BlockStorage {
    let isReadOnly: Bool
    let sectorCount: UInt64 = 16
    private let state = Mutex((bytes: [UInt8](repeating: 0, count: 16 * 512), flushes: 0))

    let domainName: DomainDiskName?

    init(isReadOnly: Bool = false, domainName: DomainDiskName? = nil) {
      self.isReadOnly = isReadOnly
      self.domainName = domainName
    }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var flushes: Int { state.withLock { $0.flushes } }

    private func range(_ sector: UInt64, _ count: Int) -> Range<Int>? {
      guard sector <= 16, count <= (16 - Int(sector)) * 512 else { return nil }
      return Int(sector) * 512..<(Int(sector) * 512 + count)
    }

    func read(_ sector: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool {
      guard let range = range(sector, target.count) else { return false }
      state.withLock { target.copyBytes(from: $0.bytes[range]) }
      return true
    }

    func write(_ sector: UInt64, from source: UnsafeRawBufferPointer) -> Bool {
      guard !isReadOnly, let range = range(sector, source.count) else { return false }
      let copy = Array(source)
      state.withLock { $0.bytes.replaceSubrange(range, with: copy) }
      return true
    }

    func synchronize() -> Bool {
      state.withLock { $0.flushes += 1 }
      return true
    }

    func forget(_ sector: UInt64, count: UInt64) -> Bool { sector + count <= 16 }
  }

  private static let front = "/local/domain/1/device/vbd/51712"
  private static let back = "/local/domain/0/backend/vbd/1/51712"

  /// A front end: its ring is page 20, its data page 21, both granted to domain 0 as 8 and 9.
  private struct FrontEnd {
    let harness: DomainHarness
    let storage: Storage
    var port: UInt32 = 0
    var produced: UInt32 = 0

    init(is64Bit: Bool, isReadOnly: Bool = false) throws {
      storage = Storage(isReadOnly: isReadOnly)
      harness = try DomainHarness(is64Bit: is64Bit, disks: [storage])
      for (reference, page) in [(8, 20), (9, 21)] as [(UInt32, UInt64)] {
        let entry = try #require(harness.domain.grants.entry(reference))
        entry.storeBytes(of: harness.frame(page) << 32 | 1, as: UInt64.self)
      }
    }

    private var protocolName: String { harness.isWide ? "x86_64-abi" : "x86_32-abi" }
    private var stride: UInt64 { harness.isWide ? 112 : 108 }

    func state(of path: String) -> String? { harness.domain.store.text("\(path)/state") }

    /// As the store does when the domain has written to it.
    func set(_ name: String, _ value: String) {
      harness.domain.store.set("\(BlockBackEndTests.front)/\(name)", value)
      DiskService(domain: harness.domain).attend()
    }

    mutating func connect() throws {
      let place = harness.address(0)
      try harness.store(UInt16(0x7ff0), place)
      try harness.store(UInt16(0), place + 2)
      #expect(harness.call(32, 6, place) == 0)
      port = try harness.load(UInt32.self, place + 4)
      set("ring-ref", "8")
      set("event-channel", "\(port)")
      set("protocol", protocolName)
      set("state", "3")
    }

    /// One request, answered: its status.
    mutating func request(
      _ operation: UInt8, sector: UInt64, segments: [(reference: UInt32, first: UInt8, last: UInt8)]
    ) throws -> Int16 {
      let place = harness.address(20) + 64 + UInt64(produced % 32) * stride
      try harness.store(operation, place)
      try harness.store(UInt8(segments.count), place + 1)
      let (identifier, sectorPlace, list): (UInt64, UInt64, UInt64) = harness.isWide ? (8, 16, 24) : (4, 12, 20)
      try harness.store(UInt64(0x1234), place + identifier)
      try harness.store(sector, place + sectorPlace)
      for (index, segment) in segments.prefix(11).enumerated() {
        let at = place + list + UInt64(index) * 8
        try harness.store(segment.reference, at)
        try harness.store(segment.first, at + 4)
        try harness.store(segment.last, at + 5)
      }
      try harness.store(UInt32(produced + 1), harness.address(20) + 12)
      produced += 1
      try harness.store(produced, harness.address(20))
      try harness.store(port, harness.address(0))
      #expect(harness.call(32, 4, harness.address(0)) == 0)
      #expect(try harness.load(UInt32.self, harness.address(20) + 8) == produced)
      #expect(try harness.load(UInt64.self, place) == 0x1234)
      #expect(harness.domain.events.isPending(port))
      return try harness.load(Int16.self, place + 10)
    }
  }

  @Test("found in the store, connected, written, read, flushed, closed", arguments: [true, false])
  func life(is64Bit: Bool) throws {
    var front = try FrontEnd(is64Bit: is64Bit)
    let harness = front.harness
    #expect(harness.domain.store.text("\(Self.front)/backend") == Self.back)
    #expect(harness.domain.store.text("\(Self.back)/sectors") == "16")
    #expect(front.state(of: Self.back) == "2")
    try front.connect()
    #expect(front.state(of: Self.back) == "4")
    let data = harness.address(21)
    for position in 0..<1024 as Range<UInt64> {
      try harness.store(UInt8(truncatingIfNeeded: position / 3), data + position)
    }
    #expect(try front.request(1, sector: 3, segments: [(9, 0, 1)]) == 0)
    #expect(front.storage.bytes[3 * 512 + 600] == UInt8(600 / 3))
    #expect(try front.request(0, sector: 3, segments: [(9, 4, 5)]) == 0)
    #expect(try harness.load(UInt8.self, data + 4 * 512 + 600) == UInt8(600 / 3))
    #expect(try front.request(3, sector: 0, segments: []) == 0)
    #expect(front.storage.flushes == 1)
    // More rounds than the ring has places.
    for _ in 0..<70 { #expect(try front.request(0, sector: 0, segments: [(9, 0, 0)]) == 0) }
    front.set("state", "5")
    #expect(front.state(of: Self.back) == "5")
    front.set("state", "6")
    #expect(front.state(of: Self.back) == "6")
    #expect(harness.domain.grants.table.uses.isEmpty)
    // And once more.
    front.set("state", "1")
    #expect(front.state(of: Self.back) == "2")
  }

  @Test("what a request may not ask for is an error of its own", arguments: [true, false])
  func refusals(is64Bit: Bool) throws {
    var front = try FrontEnd(is64Bit: is64Bit)
    try front.connect()
    #expect(try front.request(0, sector: 16, segments: [(9, 0, 0)]) == -1)
    #expect(try front.request(0, sector: .max, segments: [(9, 0, 0)]) == -1)
    #expect(try front.request(0, sector: 0, segments: [(9, 1, 0)]) == -1)
    #expect(try front.request(0, sector: 0, segments: [(9, 0, 8)]) == -1)
    #expect(try front.request(0, sector: 0, segments: [(10, 0, 0)]) == -1)
    #expect(try front.request(0, sector: 0, segments: [(60000, 0, 0)]) == -1)
    #expect(try front.request(0, sector: 0, segments: []) == -1)
    #expect(try front.request(0, sector: 0, segments: Array(repeating: (9, 0, 0), count: 12)) == -1)
    #expect(try front.request(77, sector: 0, segments: [(9, 0, 0)]) == -2)
    // Nothing is read into what is not writable.
    let entry = try #require(front.harness.domain.grants.entry(9))
    entry.storeBytes(of: front.harness.frame(21) << 32 | 1 | 4, as: UInt64.self)
    #expect(try front.request(0, sector: 0, segments: [(9, 0, 0)]) == -1)
    #expect(try front.request(1, sector: 0, segments: [(9, 0, 0)]) == 0)
    entry.storeBytes(of: front.harness.start.rootFrame << 32 | 1, as: UInt64.self)
    #expect(try front.request(0, sector: 0, segments: [(9, 0, 0)]) == -1)
    var readOnly = try FrontEnd(is64Bit: is64Bit, isReadOnly: true)
    #expect(readOnly.harness.domain.store.text("\(Self.back)/info") == "4")
    try readOnly.connect()
    #expect(try readOnly.request(1, sector: 0, segments: [(9, 0, 0)]) == -1)
  }

  @Test("a front end that lies about its ring, its port or its frames is not connected, or loses its own requests only")
  func lies() throws {
    var front = try FrontEnd(is64Bit: true)
    front.set("ring-ref", "8")
    front.set("event-channel", "1")
    front.set("state", "3")
    #expect(front.state(of: Self.back) == "2")
    front.set("state", "1")
    front.set("ring-ref", "400")
    front.set("state", "3")
    #expect(front.state(of: Self.back) == "2")
    front.set("state", "1")
    try front.connect()
    #expect(front.state(of: Self.back) == "4")
    let harness = front.harness
    // The ring stays writable memory, whatever becomes of its mapping.
    #expect(harness.map(harness.address(20), 0) == 0)
    #expect(harness.domain.memory.tables.use(harness.frame(20)) == .writable)
    #expect(harness.map(harness.address(20), harness.frame(20) << 12 | 0x63) == 0)
    // A producer beyond all bounds.
    try harness.store(UInt32(0x8000_0000), harness.address(20))
    try harness.store(front.port, harness.address(0))
    for _ in 0..<4 { #expect(harness.call(32, 4, harness.address(0)) == 0) }
    // Closing the port takes the ring from us.
    try harness.store(front.port, harness.address(0))
    #expect(harness.call(32, 3, harness.address(0)) == 0)
    #expect(harness.domain.disks[0].ring == nil)
    #expect(harness.domain.grants.table.uses.isEmpty)
  }

  @Test("a disk is where its name says", arguments: [true, false])
  func named(isWide: Bool) throws {
    let harness = try DomainHarness(
      is64Bit: isWide, disks: [Storage(isReadOnly: true, domainName: DomainDiskName("hda")), Storage(isReadOnly: true)])
    for (number, name) in [(768, "hda"), (51728, "xvdb")] {
      let front = "/local/domain/1/device/vbd/\(number)"
      let back = try #require(harness.domain.store.text("\(front)/backend"))
      #expect(harness.domain.store.text("\(front)/virtual-device") == "\(number)")
      #expect(harness.domain.store.text("\(back)/dev") == name)
    }
    #expect(harness.domain.store.text("\(Self.front)/state") == nil)
  }

  @Test("saved and restored with its ring")
  func saved() throws {
    var front = try FrontEnd(is64Bit: true)
    try front.connect()
    #expect(try front.request(0, sector: 0, segments: [(9, 0, 0)]) == 0)
    let harness = front.harness
    let saved = harness.domain.save()
    let doorbells = [DomainHarness.Doorbell(), DomainHarness.Doorbell()]
    let restored = try Domain(
      saved, memory: harness.memory, console: harness.sink, doorbells: doorbells, disks: [front.storage],
      reference: TimeReference())
    #expect(restored.save().disks == saved.disks)
    #expect(restored.grants.table.uses[8]?.user == 0)
    #expect(throws: RestoreFailure.self) {
      try Domain(
        saved, memory: harness.memory, console: harness.sink, doorbells: doorbells, reference: TimeReference())
    }
  }
}
