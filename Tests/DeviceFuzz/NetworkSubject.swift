import Glibc
import TrivisorDevices
import TrivisorNetworking
import TrivisorVMM

/// A network interface and who is at the other end.
final class NetworkSubject: FuzzSubject {
  enum Kind {
    /// As a tap interface: offloads, several pairs of queues.
    case tap
    /// As passt: a stream socket.
    case user
    /// As another guest: a socket at which one comes after the other.
    case guests
  }

  private static let pairs = 3
  /// VIRTIO_NET_F_CSUM, _GUEST_CSUM, _MTU, _MAC, _GUEST_TSO4, _GUEST_TSO6, _HOST_TSO4, _HOST_TSO6, _MRG_RXBUF, _STATUS (virtio 1.2,
  /// 5.1.3).
  private static let common: [Int] = [0, 1, 3, 5, 15, 16]
  private static let segments = [7, 8, 9, 11, 12, 13]
  /// VIRTIO_NET_F_CTRL_VQ, _MQ.
  private static let severalPairs = [17, 22]

  private let kind: Kind
  private let links: [FuzzLink]
  private let stream: StreamPeer?
  private let network: VirtioNetwork
  let features: VirtioFeatures
  let memory: GuestMemory

  init(_ kind: Kind) throws {
    self.kind = kind
    memory = try GuestMemory(size: RandomGuest.memorySize)
    var bits = Self.common
    switch kind {
    case .tap:
      links = (0..<Self.pairs).map { _ in FuzzLink() }
      stream = nil
      bits += Self.segments + Self.severalPairs
      guard let network = VirtioNetwork(links, address: .random()) else {
        throw FuzzFinding("no device of three pairs")
      }
      self.network = network
    case .user, .guests:
      links = []
      let peer = try StreamPeer(listens: kind == .guests)
      stream = peer
      network = VirtioNetwork(peer.link, address: .random())
    }
    features = VirtioFeatures(bits.map { VirtioFeatures.bit($0) })
  }

  var device: any VirtioDevice { network }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    let isControl = queue == (kind == .tap ? 2 * Self.pairs : 2)
    if isControl {
      // Class, command, pairs (5.1.6.5.5).
      var order = FuzzBytes()
      order.put(UInt8(random.chance(8) ? random.number(below: 8) : 4))
      order.put(UInt8(random.chance(8) ? random.number(below: 3) : 0))
      order.put(UInt16(random.chance(8) ? random.number(below: 0x1_0000) : random.number(below: 5)))
      return FuzzRequest(bytes: order.bytes, isWhole: !random.chance(8))
    }
    guard queue % 2 == 1 else { return nil }
    return FuzzRequest(bytes: frame(&random), isWhole: !random.chance(4))
  }

  /// struct virtio_net_hdr, and a frame of sorts.
  private func frame(_ random: inout FuzzRandom) -> [UInt8] {
    var bytes = FuzzBytes()
    bytes.put(UInt8(random.chance(8) ? random.number(below: 256) : random.number(below: 2)))
    bytes.put(UInt8(random.pick([0, 0, 0, 1, 4, 0x81, 0x84, random.number(below: 256)])))
    for _ in 0..<2 { bytes.put(UInt16(random.chance(4) ? random.number(below: 0x1_0000) : 54)) }
    bytes.put(UInt16(random.chance(8) ? random.number(below: 0x1_0000) : 14 + random.number(below: 60)))
    bytes.put(UInt16(random.chance(8) ? random.number(below: 0x1_0000) : random.number(below: 20)))
    bytes.put(UInt16(0))
    bytes.put(random.bytes(random.chance(8) ? random.number(below: 20) : 14 + random.number(below: 1600)))
    return bytes.bytes
  }

  func hostStep(_ random: inout FuzzRandom) {
    for link in links { link.change(&random) }
    stream?.step(&random)
  }
}
