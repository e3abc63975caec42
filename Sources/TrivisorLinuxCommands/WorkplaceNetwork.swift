import TrivisorNetworking
import TrivisorVMM

/// A network interface that the guest's first process is to set up.
package struct WorkplaceNetwork: Sendable, Equatable {
  /// Which it is.
  package var hardwareAddress: MACAddress
  /// Packets of so many bytes; the driver's own when `nil`.
  package var maximumTransferUnit: UInt16?
  /// Without any it is only raised.
  package var addresses: InterfaceAddresses

  package init(
    hardwareAddress: MACAddress, maximumTransferUnit: UInt16? = nil, addresses: InterfaceAddresses = .init()
  ) {
    self.hardwareAddress = hardwareAddress
    self.maximumTransferUnit = maximumTransferUnit
    self.addresses = addresses
  }

  /// One that is open.
  package init(_ network: GuestNetwork) {
    self.init(
      hardwareAddress: network.hardwareAddress, maximumTransferUnit: network.maximumTransferUnit,
      addresses: network.addresses)
  }

  /// As the guest's first process takes it (guests/linux/network.swift).
  /// - Parameter metric: of its routes; the lowest is tried first.
  func step(metric: Int) -> String {
    let entries = addresses.entries.map { entry in
      "\(Self.digits(entry.address.bytes))/\(entry.prefix)/\(Self.digits(entry.gateway?.bytes ?? []))"
    }
    let words = [Self.digits(hardwareAddress.bytes), "\(metric)", "\(maximumTransferUnit ?? 0)"] + entries
    return "network=" + words.joined(separator: ",")
  }

  private static func digits(_ bytes: [UInt8]) -> String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }

  /// For all of them together; `nil` where nobody resolves names.
  static func namesStep(_ networks: [WorkplaceNetwork]) -> String? {
    var all = InterfaceAddresses()
    for network in networks {
      for resolver in network.addresses.resolvers where !all.resolvers.contains(resolver) {
        all.resolvers.append(resolver)
      }
      if all.searchDomains.isEmpty { all.searchDomains = network.addresses.searchDomains }
    }
    return all.resolverFile.map { "names=" + $0 }
  }
}
