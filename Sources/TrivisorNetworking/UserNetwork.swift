// The user network: the guest's connections are made by a process of the host's, passt, with sockets of its own, so that no
// privilege is needed. Trivisor chooses the addresses:
//
//     10.0.2.15/24   fd54:7276:6973::15/64   the guest
//     10.0.2.2       fd54:7276:6973::2       the gateway; what is sent to it itself goes to the host's loopback
//     10.0.2.3       fd54:7276:6973::3       resolves names, where the host's resolver is on the host itself
//
// Where the host has an address of 10.0.2.0/24 itself, 10.0.3.0/24 and so on are taken.

import Glibc
import TrivisorCLinux
import TrivisorVMM

/// What a user network is to do beside letting the guest out.
public struct UserNetwork: Sendable, Equatable {
  /// A port of the host's whose connections, or datagrams, go to the guest.
  public struct Forwarding: Sendable, Hashable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public enum Transport: String, Sendable { case tcp, udp }

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var transport: Transport
    /// Of the host's; its loopback's unless said.
    public var address: InternetAddress
    /// The host's.
    public var port: UInt16
    /// The guest's.
    public var guestPort: UInt16

    /// - Parameter address: of the host's; `nil` for 127.0.0.1.
    public init(_ transport: Transport, address: InternetAddress? = nil, port: UInt16, guestPort: UInt16) {
      self.transport = transport
      self.address = address ?? InternetAddress([127, 0, 0, 1])
      self.port = port
      self.guestPort = guestPort
    }
  }

  /// Ports of the host's.
  public var forwardings: [Forwarding] = []
  /// Whether the gateway's address stands for the host's loopback.
  public var reachesLoopback = true

  /// No forwarded ports.
  public init() {}

  // MARK: Addresses

  /// The gateway's address, unless the host has such addresses itself.
  public static let usualGateway = address4(.gateway, network: 2)
  static let prefixes = (version4: 24, version6: 64)
  private static let network6: [UInt8] = [0xfd, 0x54, 0x72, 0x76, 0x69, 0x73, 0, 0, 0, 0, 0, 0, 0, 0, 0]

  enum Role: UInt8 {
    case gateway = 2
    case resolver = 3
    case guest = 15
    var last4: UInt8 { rawValue }
    /// In hexadecimal as the other in decimal digits: 15 is ::15.
    var last6: UInt8 { self == .guest ? 0x15 : rawValue }
  }

  /// The third byte of an IPv4 network in which the host has no address.
  static func freeNetwork() -> UInt8 {
    var taken: Set<UInt8> = []
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return 2 }
    defer { freeifaddrs(list) }
    var next = list
    while let entry = next {
      next = entry.pointee.ifa_next
      guard let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) else { continue }
      let bytes = UnsafeRawPointer(address).advanced(by: MemoryLayout<sockaddr_in>.offset(of: \.sin_addr) ?? 4)
        .loadUnaligned(as: (UInt8, UInt8, UInt8, UInt8).self)
      if bytes.0 == 10, bytes.1 == 0 { taken.insert(bytes.2) }
    }
    return (2...254).first { !taken.contains($0) } ?? 2
  }

  static func address4(_ role: Role, network: UInt8) -> InternetAddress {
    InternetAddress([10, 0, network, role.last4])
  }

  static func address6(_ role: Role) -> InternetAddress { InternetAddress(network6 + [role.last6]) }
}
