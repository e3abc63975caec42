import TrivisorDeviceFuzz
import TrivisorCLinux
import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorDevices

/// The guest's side of a virtio socket device, as small as tests need it.
final class SocketDriver {
  static let guest: UInt64 = 3

  let driver: VirtioDriver
  let device: VirtioSocket
  let path: FilePath
  let receive = RingPlace(index: 0, size: 64, descriptors: 0x1_0000, available: 0x1_1000, used: 0x1_2000)
  let transmit = RingPlace(index: 1, size: 64, descriptors: 0x1_4000, available: 0x1_5000, used: 0x1_6000)
  let event = RingPlace(index: 2, size: 16, descriptors: 0x1_8000, available: 0x1_9000, used: 0x1_a000)
  private static let receiveBuffers: UInt64 = 0x4_0000
  private static let sendBuffer: UInt64 = 0x3_0000
  static let bufferSize: UInt64 = 0x1000
  private var taken: UInt16 = 0

  init(_ path: FilePath = SocketDriver.freshPath(), gate: SocketGate? = nil) throws {
    self.path = path
    device = try VirtioSocket(gate ?? SocketGate(path: path), identifier: Self.guest)
    driver = try VirtioDriver(device)
  }

  static func freshPath() -> FilePath {
    FilePath("/tmp/trivisor-vsock-\(getpid())-\(UInt32.random(in: 0...UInt32.max))")
  }

  func open(buffers: Int = 32) {
    driver.open([receive, transmit, event])
    for index in 0..<buffers { giveBuffer(index) }
  }

  private func giveBuffer(_ index: Int) {
    driver.describe(
      receive, index, address: Self.receiveBuffers + Self.bufferSize * UInt64(index), length: UInt32(Self.bufferSize),
      flags: 2)
    driver.publish(receive, head: UInt16(index))
  }

  func run() { driver.run() }

  /// The next packet from the device, and its data; its buffer goes back unless that is to be kept.
  func next(keepsBuffer: Bool = false) -> (packet: SocketPacket, data: [UInt8])? {
    for _ in 0..<200 where driver.usedIndex(receive) == taken {
      run()
      if driver.usedIndex(receive) == taken { usleep(500) }
    }
    guard driver.usedIndex(receive) != taken else { return nil }
    return take(keepsBuffer)
  }

  /// What is there already.
  func pending() -> (packet: SocketPacket, data: [UInt8])? {
    run()
    return driver.usedIndex(receive) == taken ? nil : take(false)
  }

  private func take(_ keepsBuffer: Bool) -> (packet: SocketPacket, data: [UInt8])? {
    let (head, length) = driver.usedEntry(receive, taken)
    taken &+= 1
    var bytes = driver.bytes(
      at: Self.receiveBuffers + Self.bufferSize * UInt64(head), count: Int(min(UInt64(length), Self.bufferSize)))
    if !keepsBuffer { giveBuffer(Int(head)) }
    let packet: SocketPacket? = bytes.withUnsafeMutableBytes { bytes in
      var piece = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      return withUnsafeMutablePointer(to: &piece) { pointer in
        var list = BufferList(pointer: pointer, count: 1, byteCount: bytes.count)
        return SocketPacket(&list)
      }
    }
    guard let packet else { return nil }
    return (packet, Array(bytes.dropFirst(SocketPacket.size)))
  }

  func send(
    _ operation: SocketPacket.Operation, guestPort: UInt32, hostPort: UInt32, flags: UInt32 = 0, room: UInt32 = 1 << 18,
    forwarded: UInt32 = 0, _ data: [UInt8] = []
  ) {
    var packet = SocketPacket(operation, to: SocketPacket.hostIdentifier, guestPort: hostPort, hostPort: guestPort)
    packet.source = Self.guest
    packet.length = UInt32(data.count)
    (packet.flags, packet.room, packet.forwarded) = (flags, room, forwarded)
    send(packet, data)
  }

  func send(_ packet: SocketPacket, _ data: [UInt8] = []) {
    var head = [UInt8](repeating: 0, count: SocketPacket.size)
    head.withUnsafeMutableBytes { packet.store(to: [$0]) }
    driver.store(head, at: Self.sendBuffer)
    if !data.isEmpty { driver.store(data, at: Self.sendBuffer + 64) }
    var pieces = [VirtioDriver.Piece(address: Self.sendBuffer, length: UInt32(head.count))]
    if !data.isEmpty { pieces.append(.init(address: Self.sendBuffer + 64, length: UInt32(data.count))) }
    _ = driver.request(transmit, pieces)
  }
}

/// A program of the host's.
final class HostProgram {
  let raw: Int32

  init(_ raw: Int32) { self.raw = raw }

  deinit { close(raw) }

  private static func address(_ path: String) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { place in
      for (index, byte) in path.utf8.enumerated() { place[index] = byte }
    }
    return address
  }

  private static func make(_ path: String, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32) throws -> Int32
  {
    let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = address(path)
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw Errno(rawValue: errno) }
    return raw
  }

  static func connecting(_ path: FilePath) throws -> HostProgram {
    HostProgram(try make(path.string) { connect($0, $1, $2) })
  }

  static func listening(_ path: FilePath, port: UInt32) throws -> HostProgram {
    let name = "\(path)_\(port)"
    unlink(name)
    return HostProgram(try make(name) { bind($0, $1, $2) == 0 ? listen($0, 16) : -1 })
  }

  func accept() -> HostProgram? {
    let accepted = Glibc.accept(raw, nil, nil)
    return accepted >= 0 ? HostProgram(accepted) : nil
  }

  func write(_ text: String) { write(Array(text.utf8)) }
  func write(_ bytes: [UInt8]) { #expect(send(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count) }

  func read(_ limit: Int = 4096) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: limit)
    let count = recv(raw, &bytes, limit, 0)
    return Array(bytes[..<max(0, count)])
  }

  func read(exactly count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      let part = read(count - bytes.count)
      if part.isEmpty { break }
      bytes += part
    }
    return bytes
  }
}
