import SystemPackage
import TrivisorVMM

/// What a guest's network interface is plugged into, open.
public struct GuestNetwork: Sendable {
  /// For the device: one for each of its pairs of queues, all to the same place.
  public let links: [any NetworkLink]
  /// The longest packet that all of them carry.
  public var maximumTransferUnit: UInt16 { links.map(\.maximumTransferUnit).min() ?? 0 }
  /// The interface's.
  public let hardwareAddress: MACAddress
  /// What the interface is to have, where that is known.
  public let addresses: InterfaceAddresses
  /// Whether another guest is waited for, and taken in while the machine runs.
  public let acceptsConnections: Bool

  /// The user network: starts passt, which must be allowed to make namespaces for itself, and waits until it works.
  /// - Parameter hardwareAddress: chosen when `nil`.
  /// - Throws: `NetworkFailure`.
  public init(_ network: UserNetwork, hardwareAddress: MACAddress? = nil) throws(NetworkFailure) {
    let address = hardwareAddress ?? .random()
    let passt = try Passt(network, hardwareAddress: address)
    self.init([passt.link], address, passt.addresses, acceptsConnections: false)
  }

  /// A tap interface of the host's.
  /// - Parameter queueCount: pairs of queues.
  /// - Throws: `NetworkFailure`.
  public init(
    tap name: String, queueCount: Int = 1, hardwareAddress: MACAddress? = nil, addresses: InterfaceAddresses = .init()
  ) throws(NetworkFailure) {
    self.init(
      try TapLink.queues(of: name, count: queueCount), hardwareAddress ?? .random(), addresses,
      acceptsConnections: false)
  }

  /// Another guest, with the same path.
  /// - Throws: `NetworkFailure`.
  public init(
    socket path: FilePath, hardwareAddress: MACAddress? = nil, addresses: InterfaceAddresses = .init()
  ) throws(NetworkFailure) {
    let (link, listens) = try StreamLink.atSocket(path)
    self.init([link], hardwareAddress ?? .random(), addresses, acceptsConnections: listens)
  }

  private init(
    _ links: [any NetworkLink], _ address: MACAddress, _ addresses: InterfaceAddresses, acceptsConnections: Bool
  ) {
    self.links = links
    hardwareAddress = address
    self.addresses = addresses
    self.acceptsConnections = acceptsConnections
  }
}
