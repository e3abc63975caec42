import ArgumentParser
import TrivisorDevices
import TrivisorNetworking
import TrivisorVMM

/// `--network user[,tcp=8080:80][,udp=…][,loopback=off]`, `tap=NAME`, `socket=PATH`, and for each `mac=…`; for the last two
/// what the guest's first process is to set: `address=…/BITS`, `gateway=…`, `dns=…`; for tap `queues=N`.
struct NetworkArgument: ExpressibleByArgument, Equatable {
  /// What the interface is plugged into.
  enum Kind: Equatable {
    case user(UserNetwork)
    case tap(String)
    case socket(String)
  }

  private(set) var kind: Kind
  private(set) var hardwareAddress: MACAddress?
  private(set) var addresses = InterfaceAddresses()
  /// Pairs of queues.
  private(set) var queueCount: Int?

  init?(argument: String) {
    let words = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    var user = UserNetwork()
    var gateways: [InternetAddress] = []
    guard let first = words.first else { return nil }
    switch Self.parts(first) {
    case ("user", nil): kind = .user(user)
    case ("tap", let name?) where !name.isEmpty: kind = .tap(name)
    case ("socket", let path?) where !path.isEmpty: kind = .socket(path)
    default: return nil
    }
    let isUser = kind == .user(user)
    for word in words.dropFirst() {
      switch (Self.parts(word), isUser) {
      case (("tcp", let text?), true), (("udp", let text?), true):
        guard let transport = UserNetwork.Forwarding.Transport(rawValue: String(word.prefix(3))),
          let forwarding = Self.forwarding(transport, text)
        else { return nil }
        user.forwardings.append(forwarding)
      case (("loopback", let choice?), true):
        guard choice == "on" || choice == "off" else { return nil }
        user.reachesLoopback = choice == "on"
      case (("mac", let text?), _):
        guard let address = MACAddress(text) else { return nil }
        hardwareAddress = address
      case (("queues", let text?), _):
        guard let count = Int(text) else { return nil }
        queueCount = count
      case (("address", let text?), false):
        guard let entry = Self.entry(text) else { return nil }
        addresses.entries.append(entry)
      case (("gateway", let text?), false):
        guard let gateway = InternetAddress(text) else { return nil }
        gateways.append(gateway)
      case (("dns", let text?), false):
        guard let resolver = InternetAddress(text) else { return nil }
        addresses.resolvers.append(resolver)
      default: return nil
      }
    }
    if isUser { kind = .user(user) }
    for gateway in gateways {
      // It is in the network of an address that was given.
      guard let index = addresses.entries.firstIndex(where: { $0.address.isVersion6 == gateway.isVersion6 }) else {
        return nil
      }
      addresses.entries[index].gateway = gateway
    }
  }

  /// What can't be had.
  var finding: String? {
    guard let queueCount else { return nil }
    guard (1...VirtioNetwork.pairLimit).contains(queueCount) else {
      return "an interface can't have \(queueCount) pairs of queues: give 1 to \(VirtioNetwork.pairLimit)"
    }
    switch kind {
    case .tap: return nil
    case .user, .socket:
      return queueCount == 1
        ? nil : "only a tap interface has several pairs of queues: give tap=NAME, or leave queues=\(queueCount) out"
    }
  }

  private static func parts(_ word: String) -> (String, String?) {
    guard let sign = word.firstIndex(of: "=") else { return (word, nil) }
    return (String(word[..<sign]), String(word[word.index(after: sign)...]))
  }

  /// `[ADDRESS/]PORT[:PORT]`.
  private static func forwarding(
    _ transport: UserNetwork.Forwarding.Transport, _ text: String
  ) -> UserNetwork.Forwarding? {
    var ports = text
    var address: InternetAddress?
    if let slash = text.lastIndex(of: "/") {
      address = InternetAddress(String(text[..<slash]))
      ports = String(text[text.index(after: slash)...])
      guard address != nil else { return nil }
    }
    let numbers = ports.split(separator: ":", omittingEmptySubsequences: false).map { UInt16($0) }
    guard (1...2).contains(numbers.count), let port = numbers[0], let guestPort = numbers[numbers.count - 1],
      port > 0, guestPort > 0
    else { return nil }
    return UserNetwork.Forwarding(transport, address: address, port: port, guestPort: guestPort)
  }

  /// `ADDRESS/BITS`.
  private static func entry(_ text: String) -> InterfaceAddresses.Entry? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2, let address = InternetAddress(parts[0]), let prefix = Int(parts[1]) else { return nil }
    return InterfaceAddresses.Entry(address, prefix: prefix)
  }
}
