import Glibc
import SystemPackage
import Testing
import TrivisorCLinux
import TrivisorVMM

@testable import TrivisorNetworking

/// A link, and its other end by hand.
private final class Line {
  let link: StreamLink
  let other: Int32

  init() throws {
    var ends: [Int32] = [-1, -1]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    link = try StreamLink(connected: ends[0], deliversValidChecksums: true)
    other = ends[1]
  }

  deinit { close(other) }

  func put(_ bytes: [UInt8]) { #expect(send(other, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count) }
  func get(_ limit: Int = 1 << 20) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: limit)
    return Array(buffer[..<max(0, recv(other, &buffer, limit, Int32(MSG_DONTWAIT)))])
  }
}

extension NetworkLink {
  fileprivate func send(_ bytes: [UInt8], _ header: NetworkFrameHeader = .init()) -> Bool {
    var bytes = bytes
    return bytes.withUnsafeMutableBytes { buffer in
      withUnsafeTemporaryAllocation(of: iovec.self, capacity: 1) { piece in
        guard let pointer = piece.baseAddress else { return false }
        pointer.initialize(to: iovec(iov_base: buffer.baseAddress, iov_len: buffer.count))
        var list = BufferList(pointer: pointer, count: 1, byteCount: buffer.count)
        return send(&list, header)
      }
    }
  }

  fileprivate var frames: [[UInt8]] {
    var frames: [[UInt8]] = []
    receive { bytes, _ in
      frames.append(Array(bytes))
      return true
    }
    return frames
  }

  fileprivate var hasEvent: Bool {
    var descriptor = pollfd(fd: eventDescriptor, events: Int16(POLLIN), revents: 0)
    return poll(&descriptor, 1, 0) == 1
  }
}

@Suite("Frames over a stream", .timeLimit(.minutes(15)))
struct StreamLinkTests {
  private func length(_ count: Int) -> [UInt8] { [0, 0, UInt8(count >> 8), UInt8(count & 0xff)] }

  @Test("each frame is behind its length, however the stream is cut")
  func framing() throws {
    let line = try Line()
    let frames = [14, 60, 1514, 65_535].map { [UInt8](repeating: UInt8($0 & 0xff), count: $0) }
    #expect(line.link.send(frames[1]))
    #expect(line.get() == length(60) + frames[1])
    var found: [[UInt8]] = []
    var stream = frames.flatMap { length($0.count) + $0 }[...]
    while !stream.isEmpty {
      line.put(Array(stream.prefix(997)))
      stream = stream.dropFirst(997)
      found += line.link.frames
    }
    #expect(found == frames)
    #expect(line.link.isUp)
  }

  @Test("a frame that is refused comes again")
  func refused() throws {
    let line = try Line()
    line.put(length(20) + [UInt8](repeating: 1, count: 20) + length(20) + [UInt8](repeating: 2, count: 20))
    line.link.receive { _, _ in false }
    #expect(line.link.frames.map { $0[0] } == [1, 2])
  }

  @Test("a reader that lags holds frames back, and gets them whole")
  func backPressure() throws {
    let line = try Line()
    let frame = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 >> 4) }
    var sent = 0
    while sent < 1000, line.link.send(frame) { sent += 1 }
    #expect((1..<1000).contains(sent))
    #expect(!line.link.hasEvent)
    var received: [UInt8] = []
    while true {
      let bytes = line.get()
      if bytes.isEmpty { break }
      received += bytes
      line.link.settle()
    }
    #expect(received.count == sent * (4 + frame.count))
    #expect(
      stride(from: 0, to: received.count, by: 4 + frame.count).allSatisfy { start in
        Array(received[(start + 4)..<(start + 4 + frame.count)]) == frame
      })
    #expect(line.link.send(frame))
  }

  @Test(
    "lengths that no frame has, and the other end's going, take the link down", arguments: [0, 13, 65_536, 1 << 31])
  func nonsense(length: Int) throws {
    let line = try Line()
    line.put([24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + [UInt8](repeating: 0, count: 100))
    #expect(line.link.frames == [])
    #expect(!line.link.isUp)
    #expect(line.link.send([UInt8](repeating: 0, count: 60)))
  }

  @Test("it tells what is wanted, and nothing else")
  func events() throws {
    let line = try Line()
    line.put(length(20) + [UInt8](repeating: 1, count: 20))
    #expect(!line.link.hasEvent)
    line.link.setWantsFrames(true)
    #expect(line.link.hasEvent)
    #expect(line.link.frames.count == 1)
    #expect(!line.link.hasEvent)
    shutdown(line.other, Int32(SHUT_RDWR))
    #expect(line.link.hasEvent)
    #expect(line.link.frames == [])
    #expect(!line.link.isUp)
    #expect(!line.link.hasEvent)
  }

  @Test("random bytes do no harm", arguments: 1...20 as ClosedRange<UInt64>)
  func fuzz(seed: UInt64) throws {
    let line = try Line()
    var state = seed &* 0x9e37_79b9_7f4a_7c15
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    for _ in 0..<500 where line.link.isUp {
      let count = Int(next() % 300)
      var bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
      if next() % 8 != 0, count > 18 { bytes.replaceSubrange(0..<4, with: length(count - 4)) }
      line.put(bytes)
      let refuses = next() % 4 == 0
      line.link.receive { frame, _ in frame.count >= 14 && !refuses }
    }
  }

  @Test("two find each other at a path, in any order, and one after the other")
  func socket() throws {
    let folder = FilePath("/tmp/trivisor-network-\(getpid())")
    mkdir(folder.string, 0o700)
    defer { rmdir(folder.string) }
    let path = folder.appending("socket")
    defer { unlink(path.string) }
    let (first, listens) = try StreamLink.atSocket(path)
    #expect(listens && !first.isUp)
    for round in 0..<2 {
      let (second, secondListens) = try StreamLink.atSocket(path)
      #expect(!secondListens && second.isUp)
      #expect(first.hasEvent)
      first.settle()
      #expect(first.isUp)
      let frame = [UInt8](repeating: UInt8(round), count: 60)
      #expect(second.send(frame) && first.send(frame))
      #expect(first.frames == [frame] && second.frames == [frame])
      second.close()
      #expect(first.frames == [] && !first.isUp)
    }
    first.close()
    // What is left of it is no obstacle.
    let (third, thirdListens) = try StreamLink.atSocket(path)
    #expect(thirdListens)
    third.close()
    try Data.write(path)
    for place in [path, path.appending("inner"), "/no/such/folder/wire"] {
      let refusal = #expect(throws: NetworkFailure.self) { try StreamLink.atSocket(place) }
      #expect(refusal?.isUsage == true)
    }
    // It is as it was.
    #expect(access(path.string, F_OK) == 0)
    #expect(throws: NetworkFailure.self) {
      try StreamLink.atSocket(FilePath("/tmp/" + String(repeating: "x", count: 110)))
    }
  }

  private enum Data {
    /// A file that is no socket.
    static func write(_ path: FilePath) throws {
      unlink(path.string)
      try FileDescriptor.open(path, .writeOnly, options: [.create], permissions: [.ownerRead]).close()
    }
  }
}
