import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorNetworking
import TrivisorVMM

/// A link over a stream socket, with its other end: frames behind their lengths, cut anywhere, and at times something else.
final class StreamPeer {
  private static let lengthSize = 4

  let link: StreamLink
  private let folder: FuzzFolder?
  /// Negative where nobody is connected.
  private var peer: Int32 = -1
  /// What the socket did not take yet.
  private var pending: ArraySlice<UInt8> = []
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)

  /// - Parameter listens: whether others come and go, at a socket in a folder; else one is there, and goes at most.
  init(listens: Bool) throws {
    guard !listens else {
      let folder = try FuzzFolder()
      self.folder = folder
      link = try StreamLink.atSocket(folder.path.appending("wire")).link
      return
    }
    folder = nil
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw Errno(rawValue: errno)
    }
    peer = ends[1]
    link = try StreamLink(connected: ends[0], deliversValidChecksums: true)
  }

  deinit {
    link.close()
    if peer >= 0 { close(peer) }
    scratch.deallocate()
  }

  func step(_ random: inout FuzzRandom) {
    if let folder {
      if peer < 0, random.chance(4) { peer = HostSocket.connected(folder.path.appending("wire").string) }
      // In the middle of a frame, mostly.
      if peer >= 0, random.chance(500) { leave() }
    }
    guard peer >= 0 else { return }
    // Who doesn't read makes the other end wait.
    if !random.chance(4) { while recv(peer, scratch.baseAddress, scratch.count, Int32(MSG_DONTWAIT)) > 0 {} }
    if pending.isEmpty { pending = frame(&random)[...] }
    let count = random.chance(4) ? 1 + random.number(below: pending.count) : pending.count
    let sent = pending.withUnsafeBytes {
      send(peer, $0.baseAddress, min(count, $0.count), Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }
    if sent > 0 {
      pending = pending.dropFirst(sent)
    } else if errno == EPIPE || errno == ECONNRESET, folder != nil {
      leave()
    }
  }

  private func leave() {
    close(peer)
    peer = -1
    pending = []
  }

  private func frame(_ random: inout FuzzRandom) -> [UInt8] {
    let length = random.chance(40) ? random.number(below: 65_536) : 14 + random.number(below: 1600)
    // A length that no frame has ends a connection; where nobody comes behind, that is rare.
    let isWrong = random.chance(folder == nil ? 5000 : 200)
    let told = isWrong ? UInt32(truncatingIfNeeded: random.next()) : UInt32(max(length, 14))
    return withUnsafeBytes(of: told.bigEndian, Array.init) + random.bytes(max(length, 14))
  }
}
