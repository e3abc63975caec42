// One stream between a program of the host's and one of the guest's.
//
//     accepted ──CONNECT line──▶ requested ──RESPONSE──▶ established          begun by the host
//                                             REQUEST──▶ established          begun by the guest
//     established ── both of the guest's directions have ended, or RST ──▶ draining: what the guest sent goes to the host,
//                                                                          and then the descriptor is closed
//
// Bytes to the guest are never kept: they stay in the host's socket until the guest has a buffer and has given credit. Bytes
// to the host that its socket does not take are kept, at most as many as the guest was given credit for.

import TrivisorCLinux
import Glibc
import TrivisorVMM

/// A connection, with its descriptor. Not synchronized: the device is.
final class SocketConnection {
  enum Phase {
    case accepted, requested, established, draining
  }

  /// The room that the guest is told of, in bytes.
  static let room: UInt32 = 64 << 10
  /// Of the line by which a program says to which port it wants.
  private static let lineLimit = 32

  let name: UInt64
  private(set) var descriptor: Int32
  var phase: Phase
  var guestPort: UInt32 = 0
  var hostPort: UInt32 = 0

  // From the guest to the host.
  private var kept = KeptBytes()
  /// Bytes taken from the guest, and those of them that the host has.
  private var received: UInt32 = 0
  private(set) var forwarded: UInt32 = 0
  /// What the guest knows of `forwarded`.
  private var toldForwarded: UInt32 = 0
  private(set) var guestEnding: SocketPacket.Ending = []

  // From the host to the guest.
  private var peerRoom: UInt32 = 0
  private var peerForwarded: UInt32 = 0
  private var sent: UInt32 = 0
  /// The descriptor may have bytes.
  var isReadable = true
  private var hostEnding: SocketPacket.Ending = []

  // What the guest is to be told.
  var owesRequest = false
  var owesResponse = false
  var owesReset = false
  private var owesCredit = false
  private var toldEnding: SocketPacket.Ending = []
  /// In the line of those that have something for the guest.
  var isScheduled = false

  init(name: UInt64, descriptor: Int32, phase: Phase) {
    self.name = name
    self.descriptor = descriptor
    self.phase = phase
  }

  deinit { close() }

  /// Ends the host's side.
  func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
    kept.removeAll()
  }

  /// Whether the host's side is gone.
  var isClosed: Bool { descriptor < 0 }

  /// Whether the guest has ended both directions.
  var hasEnded: Bool { guestEnding == .both }

  // MARK: The line of a program of the host's

  enum Line: Equatable {
    case incomplete
    case wrong
    case port(UInt32)
  }

  /// Takes "CONNECT port\n", and nothing behind it, from the descriptor.
  func takeLine() -> Line {
    var bytes = [UInt8](repeating: 0, count: Self.lineLimit)
    let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_PEEK))
    if count < 0, errno == EAGAIN || errno == EINTR { return .incomplete }
    guard count > 0 else { return .wrong }
    guard let end = bytes[..<count].firstIndex(of: 0x0a) else { return count < Self.lineLimit ? .incomplete : .wrong }
    guard recv(descriptor, &bytes, end + 1, 0) == end + 1 else { return .wrong }
    let words = String(decoding: bytes[..<end], as: UTF8.self).split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 2, words[0] == "CONNECT", words[1].allSatisfy({ $0.isASCII && $0.isNumber }),
      let port = UInt32(words[1])
    else { return .wrong }
    return .port(port)
  }

  /// Answers that line; the socket is new, and so has room.
  func confirm() -> Bool {
    let line = Array("OK \(hostPort)\n".utf8)
    return Glibc.send(descriptor, line, line.count, Self.sendFlags) == line.count
  }

  private static let sendFlags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)

  // MARK: From the guest

  /// What every packet of the guest's says of its room.
  func note(_ packet: SocketPacket) {
    (peerRoom, peerForwarded) = (packet.room, packet.forwarded)
    if credit > 0 { hasAskedForCredit = false }
  }

  /// Bytes for the host.
  /// - Returns: whether the guest had credit for them.
  func take(_ payload: inout BufferList) -> Bool {
    let count = UInt32(truncatingIfNeeded: payload.byteCount)
    guard !guestEnding.contains(.sending), count <= Self.room &- (received &- forwarded) else { return false }
    received &+= count
    if kept.isEmpty {
      while payload.byteCount > 0, hostTakes {
        let (pieces, pieceCount) = payload.vectors
        let moved = send(pieces, Int(pieceCount))
        guard moved > 0 else { break }
        payload.removeFirst(moved)
      }
    }
    if payload.byteCount > 0 {
      if hostTakes { kept.append(&payload) } else { forward(payload.byteCount) }
    }
    return true
  }

  private var hostTakes: Bool { !isClosed && !hostEnding.contains(.receiving) }

  private func send(_ pieces: UnsafePointer<iovec>, _ count: Int) -> Int {
    var message = msghdr()
    message.msg_iov = UnsafeMutablePointer(mutating: pieces)
    message.msg_iovlen = count
    while true {
      let moved = sendmsg(descriptor, &message, Self.sendFlags)
      if moved < 0, errno == EINTR { continue }
      if moved < 0, errno != EAGAIN { hostEnded(.receiving) }
      if moved > 0 { forward(moved) }
      return moved
    }
  }

  private func forward(_ count: Int) {
    forwarded &+= UInt32(truncatingIfNeeded: count)
    // A guest that has used half of its room may soon wait.
    if forwarded &- toldForwarded >= Self.room / 2 { owesCredit = true }
  }

  /// The descriptor takes more.
  func flush() {
    while !kept.isEmpty, hostTakes {
      let moved = kept.withFirst { bytes in
        var piece = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return send(&piece, 1)
      }
      guard moved > 0 else { break }
      kept.removeFirst(moved)
    }
    if !hostTakes, !kept.isEmpty {
      forward(kept.count)
      kept.removeAll()
    }
    passEnding()
  }

  /// Whether bytes of the guest's wait for the host.
  var keepsBytes: Bool { !kept.isEmpty }

  /// The guest ends one direction, or both.
  func guestEnded(_ ending: SocketPacket.Ending) {
    guestEnding.formUnion(ending)
    if guestEnding.contains(.receiving), !isClosed { shutdown(descriptor, Int32(SHUT_RD)) }
    passEnding()
  }

  /// Behind the last byte.
  private func passEnding() {
    if guestEnding.contains(.sending), kept.isEmpty, !isClosed { shutdown(descriptor, Int32(SHUT_WR)) }
  }

  /// The guest asks for `forwarded`.
  func oweCredit() { owesCredit = true }

  // MARK: To the guest

  /// Bytes that the guest has room for; nothing of what it says of that need be true.
  private var credit: UInt32 {
    let underWay = sent &- peerForwarded
    return underWay < peerRoom ? peerRoom - underWay : 0
  }

  /// The host ends one direction, or both.
  func hostEnded(_ ending: SocketPacket.Ending) { hostEnding.formUnion(ending) }

  /// Whether there is something for the guest, as far as is known without asking the host's kernel.
  var hasSomething: Bool {
    if owesReset { return true }
    guard phase == .established || phase == .requested else { return false }
    return owesRequest || owesResponse
      || phase == .established
        && (owesCredit || canRead || !toldEnding.isSuperset(of: hostEnding))
  }

  private var canRead: Bool {
    isReadable && !isClosed && !hostEnding.contains(.sending) && !guestEnding.contains(.receiving)
      && (credit > 0 || !hasAskedForCredit)
  }

  /// Since it had some.
  private var hasAskedForCredit = false

  /// The next packet for the guest, with its data stored to `payload`.
  func next(_ packet: inout SocketPacket, _ payload: inout BufferList) -> Bool {
    packet.sourcePort = hostPort
    packet.destinationPort = guestPort
    packet.room = Self.room
    packet.forwarded = forwarded
    guard let operation = nextOperation(&packet, &payload) else { return false }
    packet.operation = operation.rawValue
    toldForwarded = forwarded
    owesCredit = false
    return true
  }

  private func nextOperation(
    _ packet: inout SocketPacket, _ payload: inout BufferList
  ) -> SocketPacket.Operation? {
    if owesReset { return .reset }
    if owesRequest {
      owesRequest = false
      return .request
    }
    if owesResponse {
      owesResponse = false
      return .response
    }
    guard phase == .established else { return nil }
    if canRead {
      if credit == 0 {
        hasAskedForCredit = true
        return .creditRequest
      }
      let count = read(&payload)
      if count > 0 {
        sent &+= UInt32(truncatingIfNeeded: count)
        packet.length = UInt32(truncatingIfNeeded: count)
        return .data
      }
    }
    if !toldEnding.isSuperset(of: hostEnding) {
      toldEnding = hostEnding
      packet.flags = hostEnding.rawValue
      return .shutdown
    }
    return owesCredit ? .creditUpdate : nil
  }

  private func read(_ payload: inout BufferList) -> Int {
    payload.keepFirst(Int(min(credit, Self.room)))
    guard payload.byteCount > 0 else { return 0 }
    while true {
      let (pieces, count) = payload.vectors
      let moved = readv(descriptor, pieces, count)
      if moved > 0 { return moved }
      if moved < 0, errno == EINTR { continue }
      isReadable = false
      // The end; or an error, behind which nothing comes either.
      if moved == 0 {
        hostEnded(.sending)
      } else if errno != EAGAIN {
        hostEnded(.both)
      }
      return 0
    }
  }
}

/// Bytes that wait, first in, first out.
private struct KeptBytes {
  private var bytes: [UInt8] = []
  private var start = 0

  var count: Int { bytes.count - start }
  var isEmpty: Bool { count == 0 }

  mutating func append(_ list: inout BufferList) {
    if start > 0 {
      bytes.removeFirst(start)
      start = 0
    }
    let before = bytes.count
    bytes.append(contentsOf: repeatElement(0, count: list.byteCount))
    bytes.withUnsafeMutableBytes { room in
      _ = list.read(into: UnsafeMutableRawBufferPointer(rebasing: room[before...]))
    }
  }

  func withFirst<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
  }

  mutating func removeFirst(_ amount: Int) {
    start += min(amount, count)
    if isEmpty { removeAll() }
  }

  /// Memory goes, too.
  mutating func removeAll() { (bytes, start) = ([], 0) }
}
