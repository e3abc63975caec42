import TrivisorDevices
import TrivisorNetworking
import TrivisorVMM

/// `--network user[,tcp=8080:80][,udp=…][,loopback=off]`, `tap=NAME`, `socket=PATH`, and for each `mac=…`; for the last two
/// what the guest's first process is to set: `address=…/BITS`, `gateway=…`, `dns=…`; for tap `queues=N`.
struct NetworkArgument: Equatable {
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

  init(parsing argument: String) throws(InvalidArgument) {
    let words = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    var user = UserNetwork()
    var gateways: [InternetAddress] = []
    let first = words.first ?? ""
    switch Self.parts(first) {
    case ("user", nil): kind = .user(user)
    case ("tap", let name?) where !name.isEmpty: kind = .tap(name)
    case ("socket", let path?) where !path.isEmpty: kind = .socket(path)
    default:
      throw InvalidArgument("there is no attachment '\(first)': give user, tap=NAME or socket=PATH")
    }
    let isUser = kind == .user(user)
    for (index, word) in words.enumerated().dropFirst() {
      try Self.refuseRepeated(word, among: words[1..<index])
      switch (Self.parts(word), isUser) {
      case (("tcp", let text?), true), (("udp", let text?), true):
        guard let transport = UserNetwork.Forwarding.Transport(rawValue: String(word.prefix(3))),
          let forwarding = Self.forwarding(transport, text)
        else { throw InvalidArgument("'\(word)' names no ports: give [ADDRESS/]PORT[:GUESTPORT], 1 to 65535") }
        let isTaken = user.forwardings.contains {
          ($0.transport, $0.address, $0.port) == (forwarding.transport, forwarding.address, forwarding.port)
        }
        guard !isTaken else { throw InvalidArgument("the port of '\(word)' is given twice: leave one out") }
        user.forwardings.append(forwarding)
      case (("loopback", let choice?), true):
        guard choice == "on" || choice == "off" else {
          throw InvalidArgument("'\(word)' is neither loopback=on nor loopback=off")
        }
        user.reachesLoopback = choice == "on"
      case (("mac", let text?), _):
        guard let address = MACAddress(text) else {
          throw InvalidArgument("'\(text)' is no address of one interface: give one as 52:54:00:12:34:56")
        }
        hardwareAddress = address
      case (("queues", let text?), _):
        guard let count = Int(text) else {
          throw InvalidArgument("'\(text)' is no number of queues: give 1 to \(VirtioNetwork.pairLimit)")
        }
        queueCount = count
      case (("address", let text?), false):
        guard let entry = Self.entry(text) else {
          throw InvalidArgument("'\(text)' is no address with the bits of its network: give one as 192.0.2.2/24")
        }
        addresses.entries.append(entry)
      case (("gateway", let text?), false): gateways.append(try Self.address(text))
      case (("dns", let text?), false): addresses.resolvers.append(try Self.address(text))
      default:
        let known = isUser ? "tcp=, udp=, loopback= and mac=" : "address=, gateway=, dns=, mac= and queues="
        guard !word.isEmpty else {
          throw InvalidArgument("nothing stands behind a comma: leave the comma out, or give one of \(known)")
        }
        throw InvalidArgument("'\(word)' is nothing that this attachment has: there are \(known)")
      }
    }
    if isUser { kind = .user(user) }
    for gateway in gateways {
      // It is in the network of an address that was given.
      guard let index = addresses.entries.firstIndex(where: { $0.address.isVersion6 == gateway.isVersion6 }) else {
        throw InvalidArgument("the gateway \(gateway) is in no network of the guest's: give an address=…/BITS for it")
      }
      guard addresses.entries[index].gateway == nil else {
        throw InvalidArgument("the gateway \(gateway) is the second of its network: leave one out")
      }
      addresses.entries[index].gateway = gateway
    }
  }

  /// Of these, one can be had: a second one would take the first one's place.
  private static let single = ["loopback", "mac", "queues"]

  private static func refuseRepeated(_ word: String, among others: ArraySlice<String>) throws(InvalidArgument) {
    guard !word.isEmpty else { return }
    if others.contains(word) { throw InvalidArgument("'\(word)' is given twice: leave one out") }
    let name = parts(word).0
    guard single.contains(name), let other = others.first(where: { parts($0).0 == name }) else { return }
    throw InvalidArgument("'\(other)' and '\(word)' are given: leave one out")
  }

  private static func address(_ text: String) throws(InvalidArgument) -> InternetAddress {
    guard let address = InternetAddress(text) else {
      throw InvalidArgument("'\(text)' is no IPv4 or IPv6 address")
    }
    return address
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
