import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorDevices

/// Sector n is full of the byte n + 1.
private func pattern(sectors: Int) -> [UInt8] {
  (0..<sectors).flatMap { [UInt8](repeating: UInt8(truncatingIfNeeded: $0 + 1), count: 512) }
}

/// A disk of 16 sectors and a driver for it.
private struct Fixture {
  let file: TemporaryFile
  let driver: VirtioDriver
  let queue = RingPlace.standard()

  static let header: UInt64 = 0x2_0000
  static let data: UInt64 = 0x3_0000
  static let status: UInt64 = 0x2_8000

  init(isReadOnly: Bool = false, usesWorker: Bool = false, features: VirtioFeatures = .bit(9)) throws {
    file = try TemporaryFile(pattern(sectors: 16))
    let image = try DiskImage(path: file.path, isReadOnly: isReadOnly)
    driver = try VirtioDriver(VirtioBlock(image, identifier: "disk-0"), usesWorker: usesWorker)
    driver.open([queue], features: features)
  }

  func prepareHeader(_ type: UInt32, sector: UInt64) {
    driver.store(type, at: Self.header)
    driver.store(UInt32(0), at: Self.header + 4)
    driver.store(sector, at: Self.header + 8)
    driver.store(UInt8(0xee), at: Self.status)
  }

  /// A request in the usual three pieces.
  func request(_ type: UInt32, sector: UInt64 = 0, data: UInt32 = 0, isRead: Bool = false) -> (
    status: UInt8, length: UInt32?
  ) {
    prepareHeader(type, sector: sector)
    var pieces = [VirtioDriver.Piece(address: Self.header, length: 16)]
    if data > 0 { pieces.append(.init(address: Self.data, length: data, isWritable: isRead)) }
    pieces.append(.init(address: Self.status, length: 1, isWritable: true))
    let length = driver.request(queue, pieces)
    return (driver.load(UInt8.self, at: Self.status), length)
  }
}

@Suite("Virtio block")
struct VirtioBlockTests {
  @Test("capacity and limits are in the configuration space, at any width")
  func configuration() throws {
    let disk = try Fixture()
    #expect(disk.driver.read(0x100, width: .quadword) == 16)
    #expect(disk.driver.read(0x10c) == 254)
    #expect(disk.driver.read(0x114) == 512)
    #expect(disk.driver.read(0x122, width: .word) == 1)
    #expect(disk.driver.read(0x138, width: .byte) == 1)
    #expect(disk.driver.read(0x800) == 0)
    disk.driver.write(VirtioDriver.Register.featuresSelect, 0)
    #expect(
      disk.driver.read(VirtioDriver.Register.features) & 0x7fff
        == 1 << 2 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14)
  }

  @Test("what is written is read, and in the file")
  func readAndWrite() throws {
    let disk = try Fixture()
    #expect(disk.request(0, sector: 3, data: 1024, isRead: true) == (0, 1025))
    #expect(disk.driver.bytes(at: Fixture.data, count: 1024) == Array(pattern(sectors: 16)[1536..<2560]))
    disk.driver.store([UInt8](repeating: 0xaa, count: 512), at: Fixture.data)
    #expect(disk.request(1, sector: 15, data: 512) == (0, 1))
    #expect(disk.request(4) == (0, 1))
    #expect(disk.file.content == pattern(sectors: 15) + [UInt8](repeating: 0xaa, count: 512))
  }

  @Test("how a request is cut into buffers means nothing")
  func framing() throws {
    let disk = try Fixture()
    disk.prepareHeader(0, sector: 1)
    // The header in three pieces; data and status byte in odd ones that share a buffer.
    let length = disk.driver.request(
      disk.queue,
      [
        .init(address: Fixture.header, length: 3), .init(address: Fixture.header + 3, length: 0),
        .init(address: Fixture.header + 3, length: 12), .init(address: Fixture.header + 15, length: 1),
        .init(address: Fixture.data, length: 1, isWritable: true),
        .init(address: Fixture.data + 1, length: 300, isWritable: true),
        .init(address: Fixture.data + 301, length: 212, isWritable: true),
      ])
    #expect(length == 513)
    #expect(disk.driver.bytes(at: Fixture.data, count: 513) == [UInt8](repeating: 2, count: 512) + [0])
    // A write whose header and data are one buffer.
    disk.prepareHeader(1, sector: 0)
    disk.driver.store([UInt8](repeating: 0x77, count: 512), at: Fixture.header + 16)
    #expect(
      disk.driver.request(
        disk.queue,
        [
          .init(address: Fixture.header, length: 16 + 512),
          .init(address: Fixture.status, length: 1, isWritable: true),
        ]) == 1)
    #expect(disk.file.content == [UInt8](repeating: 0x77, count: 512) + pattern(sectors: 16)[512...])
  }

  @Test("the identifier is given, padded with zeros")
  func identifier() throws {
    let disk = try Fixture()
    #expect(disk.request(8, data: 20, isRead: true) == (0, 21))
    #expect(disk.driver.bytes(at: Fixture.data, count: 20) == Array("disk-0".utf8) + [UInt8](repeating: 0, count: 14))
  }

  @Test(
    "requests outside the disk, or not of whole sectors, are errors and change nothing",
    arguments: [(16, 512), (15, 1024), (UInt64.max, 512), (1 << 55, 512), (0, 511), (0, 513)] as [(UInt64, UInt32)])
  func outside(sector: UInt64, length: UInt32) throws {
    let disk = try Fixture()
    #expect(disk.request(1, sector: sector, data: length).status == 1)
    #expect(disk.request(0, sector: sector, data: length, isRead: true).status == 1)
    #expect(disk.file.content == pattern(sectors: 16))
    #expect(!disk.driver.isBroken)
  }

  @Test("a request of an unknown type is unsupported", arguments: [2, 5, 10, 14, 0xffff_ffff] as [UInt32])
  func unknown(type: UInt32) throws {
    let disk = try Fixture()
    #expect(disk.request(type, data: 512, isRead: true).status == 2)
  }

  @Test("a read-only disk says so, and refuses whatever would change it")
  func readOnly() throws {
    let disk = try Fixture(isReadOnly: true)
    disk.driver.write(VirtioDriver.Register.featuresSelect, 0)
    #expect(
      disk.driver.read(VirtioDriver.Register.features) & 0x7fff
        == 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11)
    for type: UInt32 in [1, 11, 13] { #expect(disk.request(type, data: 512).status == 1) }
    #expect(disk.request(0, data: 512, isRead: true).status == 0)
    #expect(disk.file.content == pattern(sectors: 16))
  }

  @Test("cleared sectors read as zero, discarded ones stay readable; flags and ranges are checked")
  func ranges() throws {
    let disk = try Fixture()
    func ranges(_ type: UInt32, _ ranges: [(sector: UInt64, count: UInt32, flags: UInt32)]) -> UInt8 {
      for (index, range) in ranges.enumerated() {
        disk.driver.store(range.sector, at: Fixture.data + 16 * UInt64(index))
        disk.driver.store(range.count, at: Fixture.data + 16 * UInt64(index) + 8)
        disk.driver.store(range.flags, at: Fixture.data + 16 * UInt64(index) + 12)
      }
      return disk.request(type, data: UInt32(16 * ranges.count)).status
    }
    #expect(ranges(13, [(2, 1, 0), (4, 2, 1)]) == 0)
    var expected = pattern(sectors: 16)
    for sector in [2, 4, 5] { for byte in 0..<512 { expected[512 * sector + byte] = 0 } }
    #expect(disk.file.content == expected)
    #expect(ranges(11, [(8, 2, 0)]) == 0)
    #expect(disk.file.content.count == 16 * 512)
    #expect(disk.request(0, sector: 8, data: 1024, isRead: true).status == 0)
    #expect(ranges(11, [(8, 2, 1)]) == 2)
    #expect(ranges(13, [(8, 2, 2)]) == 2)
    #expect(ranges(13, [(15, 2, 0)]) == 1)
    #expect(ranges(11, [(UInt64.max, 1, 0)]) == 1)
    #expect(ranges(13, [(0, 0xffff_ffff, 0)]) == 1)
    #expect(ranges(13, Array(repeating: (0, 0, 0), count: 17)) == 1)
    #expect(disk.request(13, data: 15).status == 1)
    #expect(disk.request(13).status == 1)
  }

  @Test("a request without header or status byte breaks the device")
  func malformed() throws {
    for pieces in [
      [.init(address: Fixture.header, length: 15), .init(address: Fixture.status, length: 1, isWritable: true)],
      [.init(address: Fixture.header, length: 16)],
      [.init(address: Fixture.status, length: 1, isWritable: true)],
    ] as [[VirtioDriver.Piece]] {
      let disk = try Fixture()
      disk.prepareHeader(0, sector: 0)
      #expect(disk.driver.request(disk.queue, pieces) == nil)
      #expect(disk.driver.isBroken)
      #expect(disk.driver.device.fault == .malformedRequest)
    }
  }

  @Test("an image that became shorter is an input/output error")
  func truncatedImage() throws {
    let disk = try Fixture()
    #expect(truncate(disk.file.path.string, 512) == 0)
    #expect(disk.request(0, sector: 4, data: 512, isRead: true).status == 1)
    #expect(disk.request(0, sector: 0, data: 512, isRead: true).status == 0)
  }

  @Test("on the device's own thread, with and without flushing", .timeLimit(.minutes(15)), arguments: [true, false])
  func worker(flushes: Bool) throws {
    let disk = try Fixture(usesWorker: true, features: flushes ? [.bit(9), .eventIndex] : [])
    for round: UInt16 in 0..<200 {
      disk.prepareHeader(1, sector: UInt64(round % 16))
      disk.driver.store([UInt8](repeating: UInt8(round), count: 512), at: Fixture.data)
      disk.driver.describe(
        disk.queue,
        [
          .init(address: Fixture.header, length: 16), .init(address: Fixture.data, length: 512),
          .init(address: Fixture.status, length: 1, isWritable: true),
        ])
      disk.driver.publish(disk.queue, head: 0)
      disk.driver.kick()
      while disk.driver.usedIndex(disk.queue) != round + 1 { sched_yield() }
      #expect(disk.driver.load(UInt8.self, at: Fixture.status) == 0)
    }
    disk.driver.device.stop()
    // The last rounds were 192 to 199 for the first eight sectors, 184 to 191 for the others.
    let expected = Array(192...199 as ClosedRange<UInt8>) + Array(184...191 as ClosedRange<UInt8>)
    #expect(disk.file.content == expected.flatMap { [UInt8](repeating: $0, count: 512) })
  }
}

@Suite("Disk images")
struct DiskImageTests {
  private func failure(_ path: FilePath, isReadOnly: Bool = false) -> String? {
    do throws(DeviceFailure) {
      _ = try DiskImage(path: path, isReadOnly: isReadOnly)
      return nil
    } catch { return error.description }
  }

  @Test("what can't be a disk is refused in one sentence")
  func refusals() throws {
    #expect(try #require(failure("/nonexistent/disk")).contains("check the path"))
    #expect(try #require(failure("/tmp", isReadOnly: true)).contains("neither a file nor a block device"))
    #expect(try #require(failure("/dev/null")).contains("neither a file nor a block device"))
    for (content, words) in [([], "empty"), ([1, 2, 3], "whole number of sectors")] as [([UInt8], String)] {
      let file = try TemporaryFile(content)
      #expect(try #require(failure(file.path)).contains(words))
      withExtendedLifetime(file) {}
    }
  }

  @Test("an image is written to by one machine only, and read by several")
  func locking() throws {
    let file = try TemporaryFile(pattern(sectors: 1))
    do {
      let first = try DiskImage(path: file.path, isReadOnly: false)
      #expect(try #require(failure(file.path)).contains("another program"))
      #expect(failure(file.path, isReadOnly: true) != nil)
      #expect(first.sectorCount == 1)
    }
    let reader = try DiskImage(path: file.path, isReadOnly: true)
    #expect(failure(file.path, isReadOnly: true) == nil)
    #expect(failure(file.path) != nil)
    #expect(reader.isReadOnly)
  }
}
