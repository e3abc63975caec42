import TrivisorDeviceFuzz
import TrivisorFileServer
import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("virtio-fs device")
struct VirtioFileSystemTests {
  private static let request: UInt64 = 0x6_0000
  private static let reply: UInt64 = 0x7_0000

  private func makeDriver() throws -> (VirtioDriver, [RingPlace]) {
    let server = try FileServer(SharedFolder(path: "/tmp", isReadOnly: true))
    let driver = try VirtioDriver(VirtioFileSystem(server, tag: "tag"))
    let queues = [RingPlace.standard(0), RingPlace.standard(1)]
    driver.open(queues)
    return (driver, queues)
  }

  private func header(_ length: Int, _ operation: UInt32, node: UInt64 = 1) -> [UInt8] {
    var bytes: [UInt8] = []
    func put(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    put(UInt32(length))
    put(operation)
    put(UInt64(77))
    put(node)
    for value: UInt32 in [0, 0, 1, 0] { put(value) }
    return bytes
  }

  private func send(_ driver: VirtioDriver, _ queue: RingPlace, _ bytes: [UInt8], room: UInt32 = 4096) -> UInt32? {
    driver.store(bytes, at: Self.request)
    var pieces = [VirtioDriver.Piece(address: Self.request, length: UInt32(bytes.count))]
    if room > 0 { pieces.append(VirtioDriver.Piece(address: Self.reply, length: room, isWritable: true)) }
    return driver.request(queue, pieces)
  }

  /// FUSE_INIT, 7.36.
  private var hello: [UInt8] {
    header(56, 26) + [7, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
  }

  @Test("is what a driver looks for")
  func identity() throws {
    let (driver, _) = try makeDriver()
    #expect(driver.read(0x08) == 26)
    #expect(
      (0..<4).map { UInt8(truncatingIfNeeded: driver.read(0x100 + UInt64($0), width: .byte)) } == [0x74, 0x61, 0x67, 0])
    #expect(driver.read(0x100 + 36) == 1)
    driver.write(VirtioDriver.Register.queueSelect, 1)
    #expect(driver.read(VirtioDriver.Register.queueMaximum) == 1024)
  }

  @Test("answers requests, and takes what is forgotten without an answer")
  func requests() throws {
    let (driver, queues) = try makeDriver()
    #expect(send(driver, queues[1], hello) == 80)
    #expect(driver.load(UInt32.self, at: Self.reply) == 80)
    #expect(driver.load(UInt64.self, at: Self.reply + 8) == 77)
    #expect(driver.load(UInt32.self, at: Self.reply + 16) == 7)
    // FUSE_GETATTR of the folder itself.
    #expect(send(driver, queues[1], header(56, 3) + [UInt8](repeating: 0, count: 16)) == 120)
    #expect(driver.load(UInt32.self, at: Self.reply + 4) == 0)
    #expect(send(driver, queues[0], header(48, 2) + [UInt8](repeating: 1, count: 8), room: 0) == 0)
    #expect(!driver.isBroken)
  }

  @Test("after a reset nothing is known any more")
  func reset() throws {
    let (driver, queues) = try makeDriver()
    #expect(send(driver, queues[1], hello) == 80)
    driver.open(queues)
    for queue in queues { driver.store([UInt8](repeating: 0, count: 256), at: queue.used) }
    for queue in queues { driver.store([UInt8](repeating: 0, count: 64), at: queue.available) }
    // Before it is greeted again, it answers with EIO.
    #expect(send(driver, queues[1], header(56, 3) + [UInt8](repeating: 0, count: 16)) == 16)
    #expect(driver.load(Int32.self, at: Self.reply + 4) == -EIO)
  }

  @Test("a request that can't even be answered breaks the device", arguments: [0, 15])
  func malformed(room: UInt32) throws {
    let (driver, queues) = try makeDriver()
    #expect(send(driver, queues[1], hello, room: room) == nil)
    #expect(driver.isBroken)
  }

  @Test("a header that is cut off breaks the device")
  func truncated() throws {
    let (driver, queues) = try makeDriver()
    #expect(send(driver, queues[1], Array(hello.prefix(39))) == nil)
    #expect(driver.isBroken)
  }
}
