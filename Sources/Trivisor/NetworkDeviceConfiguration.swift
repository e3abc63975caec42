import TrivisorDevices
import TrivisorNetworking
import TrivisorVMM

/// A network interface, virtio; at most eight.
public struct NetworkDeviceConfiguration: Sendable, Equatable {
  /// What it is plugged into.
  public var attachment: NetworkAttachment
  /// `52:54:00:12:34:56`, of one interface; a new one for each run when `nil`.
  public var macAddress: String?
  /// Pairs of queues, 1 to 8. More than one only with a tap interface that was made for several queues, and not under the paravirtual
  /// technique.
  public var queueCount: Int

  /// - Parameters:
  ///   - macAddress: a new one for each run when `nil`.
  ///   - queueCount: 1 to 8, with a tap interface.
  public init(attachment: NetworkAttachment, macAddress: String? = nil, queueCount: Int = 1) {
    self.attachment = attachment
    self.macAddress = macAddress
    self.queueCount = queueCount
  }

  /// What can't be, whatever the host.
  func finding() -> String? {
    if let macAddress, MACAddress(macAddress) == nil { return "'\(macAddress)' is no address of one interface" }
    guard (1...VirtioNetwork.pairLimit).contains(queueCount) else {
      return "an interface can't have \(queueCount) pairs of queues: give 1 to \(VirtioNetwork.pairLimit)"
    }
    if queueCount > 1 {
      guard case .tap = attachment else {
        return "only a tap interface has several pairs of queues: leave the number of queues out"
      }
    }
    switch attachment {
    case .user(let forwardings, _):
      for forwarding in forwardings {
        if let address = forwarding.address, InternetAddress(address) == nil {
          return "'\(address)' is no IPv4 or IPv6 address"
        }
        if forwarding.port == 0 || forwarding.guestPort == 0 { return "there is no port 0" }
      }
    case .tap(_, let addresses), .socket(_, let addresses):
      for address in addresses where address.entry == nil {
        let gateway = address.gateway.map { " with the gateway '\($0)'" } ?? ""
        return "'\(address.address)/\(address.prefixLength)'\(gateway) is no address that an interface can have"
      }
    }
    return nil
  }

  /// - Throws: `NetworkFailure`; what `finding` tells of is left out.
  func open() throws(NetworkFailure) -> GuestNetwork {
    let hardwareAddress = macAddress.flatMap { MACAddress($0) }
    switch attachment {
    case .user(let forwardings, let reachesLoopback):
      var user = UserNetwork()
      user.reachesLoopback = reachesLoopback
      user.forwardings = forwardings.map { forwarding in
        UserNetwork.Forwarding(
          forwarding.transport == .tcp ? .tcp : .udp, address: forwarding.address.flatMap { InternetAddress($0) },
          port: forwarding.port, guestPort: forwarding.guestPort)
      }
      return try GuestNetwork(user, hardwareAddress: hardwareAddress)
    case .tap(let name, let addresses):
      return try GuestNetwork(
        tap: name, queueCount: queueCount, hardwareAddress: hardwareAddress, addresses: Self.set(addresses))
    case .socket(let path, let addresses):
      return try GuestNetwork(socket: path, hardwareAddress: hardwareAddress, addresses: Self.set(addresses))
    }
  }

  private static func set(_ addresses: [NetworkAttachment.Address]) -> InterfaceAddresses {
    var set = InterfaceAddresses()
    set.entries = addresses.compactMap(\.entry)
    return set
  }
}

/// What a guest's network interface is plugged into.
public enum NetworkAttachment: Sendable, Equatable {
  /// A port of the host's whose connections, or datagrams, go to the guest.
  public struct PortForwarding: Sendable, Hashable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public enum Transport: Sendable { case tcp, udp }

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var transport: Transport
    /// Of the host's; 127.0.0.1 when `nil`.
    public var address: String?
    /// The host's.
    public var port: UInt16
    /// The guest's.
    public var guestPort: UInt16

    /// - Parameter address: of the host's; 127.0.0.1 when `nil`.
    public init(_ transport: Transport, address: String? = nil, port: UInt16, guestPort: UInt16) {
      self.transport = transport
      self.address = address
      self.port = port
      self.guestPort = guestPort
    }
  }

  /// An address that a guest's interface is given, where the guest runs a `LinuxCommand`.
  public struct Address: Sendable, Hashable {
    /// IPv4 or IPv6.
    public var address: String
    /// How many of its bits are the network's.
    public var prefixLength: Int
    /// Where packets to other networks go.
    public var gateway: String?

    /// - Parameter gateway: of the same version of IP.
    public init(_ address: String, prefixLength: Int, gateway: String? = nil) {
      self.address = address
      self.prefixLength = prefixLength
      self.gateway = gateway
    }

    var entry: InterfaceAddresses.Entry? {
      guard let address = InternetAddress(address) else { return nil }
      var router: InternetAddress?
      if let gateway {
        router = InternetAddress(gateway)
        guard router?.isVersion6 == address.isVersion6 else { return nil }
      }
      return InterfaceAddresses.Entry(address, prefix: prefixLength, gateway: router)
    }
  }

  /// A process of the host's, passt, which makes the guest's connections with sockets of its own; the guest's addresses are
  /// chosen. Through its gateway, 10.0.2.2, the guest reaches the host's loopback, unless `reachesLoopback` is false.
  case user(forwardings: [PortForwarding] = [], reachesLoopback: Bool = true)
  /// A tap interface of the host's, which is there.
  case tap(name: String, addresses: [Address] = [])
  /// Another guest with the same path.
  case socket(path: FilePath, addresses: [Address] = [])
}
