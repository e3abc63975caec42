import Glibc

/// An IPv4 or IPv6 address.
public struct InternetAddress: Sendable, Hashable, CustomStringConvertible {
  /// Four or sixteen of them, in network order.
  public let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// - Returns: `nil` unless it is one as inet_pton(3) takes it.
  public init?(_ text: String) {
    var four = in_addr()
    var sixteen = in6_addr()
    if inet_pton(AF_INET, text, &four) == 1 {
      bytes = withUnsafeBytes(of: &four) { Array($0) }
    } else if inet_pton(AF_INET6, text, &sixteen) == 1 {
      bytes = withUnsafeBytes(of: &sixteen) { Array($0) }
    } else {
      return nil
    }
  }

  /// Whether it is one of IP version 6.
  public var isVersion6: Bool { bytes.count == 16 }

  /// Whether it means the host that uses it.
  var isLoopback: Bool { isVersion6 ? bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1 : bytes[0] == 127 }

  /// As inet_ntop(3) writes it.
  public var description: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { room in
      guard
        let text = bytes.withUnsafeBytes({ bytes in
          inet_ntop(isVersion6 ? AF_INET6 : AF_INET, bytes.baseAddress, room.baseAddress, socklen_t(room.count))
        })
      else { return "" }
      return String(cString: text)
    }
  }
}

/// What a guest's interface is given: by the guest's first process, where that is ours.
public struct InterfaceAddresses: Sendable, Equatable {
  /// An address, and which of its bits are the network's.
  public struct Entry: Sendable, Equatable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var address: InternetAddress
    /// Bits.
    public var prefix: Int
    /// Where packets to other networks go.
    public var gateway: InternetAddress?

    /// - Returns: `nil` where there are not so many bits.
    public init?(_ address: InternetAddress, prefix: Int, gateway: InternetAddress? = nil) {
      guard (0...(8 * address.bytes.count)).contains(prefix) else { return nil }
      self.address = address
      self.prefix = prefix
      self.gateway = gateway
    }
  }

  /// Its addresses.
  public var entries: [Entry] = []
  /// Servers that resolve names.
  public var resolvers: [InternetAddress] = []
  /// Domains in which names are looked for.
  public var searchDomains: [String] = []

  /// None.
  public init() {}

  /// What resolv.conf(5) is to hold; `nil` where nobody resolves names.
  public var resolverFile: String? {
    guard !resolvers.isEmpty else { return nil }
    var text = resolvers.map { "nameserver \($0)\n" }.joined()
    if !searchDomains.isEmpty { text += "search " + searchDomains.joined(separator: " ") + "\n" }
    return text
  }
}
