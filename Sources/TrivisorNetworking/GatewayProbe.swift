import Glibc
import TrivisorVMM

/// Asks at the other end of a socket for two gateways, and waits for answers.
struct GatewayProbe {
  struct Found: Equatable {
    var hasVersion4 = false
    var hasVersion6 = false
  }

  enum Failure: Error {
    /// Nobody is there any more.
    case closed
    case silent
  }

  private let socket: Int32
  private let address: MACAddress
  private let guest4: InternetAddress
  private let gateway4: InternetAddress
  private let gateway6: InternetAddress

  init(
    _ socket: Int32, from address: MACAddress, guest4: InternetAddress, gateway4: InternetAddress,
    gateway6: InternetAddress
  ) {
    self.socket = socket
    self.address = address
    self.guest4 = guest4
    self.gateway4 = gateway4
    self.gateway6 = gateway6
  }

  /// Frames are answered in their order, or by version of IP. So when a question that was asked again behind the first answer
  /// is answered, all questions before it are.
  func run(milliseconds: Int32) throws(Failure) -> Found {
    let deadline = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
    var found = Found()
    var answers = (version4: 0, version6: 0)
    var input: [UInt8] = []
    try send(question4)
    try send(question6)
    while true {
      let kind = try nextAnswer(&input, deadline: deadline)
      let isFirst = !found.hasVersion4 && !found.hasVersion6
      switch kind {
      case .version4:
        found.hasVersion4 = true
        answers.version4 += 1
      case .version6:
        found.hasVersion6 = true
        answers.version6 += 1
      }
      if found.hasVersion4 && found.hasVersion6 || answers.version4 > 1 || answers.version6 > 1 { return found }
      if isFirst { try send(kind == .version4 ? question4 : question6) }
    }
  }

  private enum Kind { case version4, version6 }

  // MARK: Questions

  private static let broadcast = [UInt8](repeating: 0xff, count: 6)

  /// Who has the gateway's address?
  private var question4: [UInt8] {
    var frame = Self.broadcast + address.bytes + [0x08, 0x06]
    // Ethernet, IPv4, lengths of both, request.
    frame += [0, 1, 0x08, 0, 6, 4, 0, 1]
    frame += address.bytes + guest4.bytes + [UInt8](repeating: 0, count: 6) + gateway4.bytes
    return frame
  }

  /// The same by a neighbour solicitation, from the interface's link-local address.
  private var question6: [UInt8] {
    let own = Self.linkLocal(address)
    let group: [UInt8] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff] + gateway6.bytes.suffix(3)
    // Type, code, checksum, reserved, target; option 1: the source's hardware address, one unit of eight bytes.
    var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + gateway6.bytes + [1, 1] + address.bytes
    // RFC 8200, 8.1.
    let pseudo: [UInt8] = own + group + [0, 0, 0, UInt8(message.count), 0, 0, 0, 58]
    let sum = ~(pseudo + message).withUnsafeBytes { InternetChecksum.sum($0) }
    (message[2], message[3]) = (UInt8(truncatingIfNeeded: sum), UInt8(truncatingIfNeeded: sum >> 8))
    var frame: [UInt8] = [0x33, 0x33, 0xff] + gateway6.bytes.suffix(3) + address.bytes + [0x86, 0xdd]
    frame += [0x60, 0, 0, 0, 0, UInt8(message.count), 58, 255] + own + group
    return frame + message
  }

  /// RFC 4291, appendix A.
  private static func linkLocal(_ address: MACAddress) -> [UInt8] {
    let bytes = address.bytes
    return [0xfe, 0x80, 0, 0, 0, 0, 0, 0, bytes[0] ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]]
  }

  private func send(_ frame: [UInt8]) throws(Failure) {
    let count = UInt32(frame.count)
    let bytes = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: count >> UInt32($0)) } + frame
    // A new socket has room for them.
    guard Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { throw .closed }
  }

  // MARK: Answers

  private func nextAnswer(_ input: inout [UInt8], deadline: UInt64) throws(Failure) -> Kind {
    while true {
      while input.count >= 4 {
        let length = input[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard length <= 1 << 16 else { throw .closed }
        guard input.count >= 4 + length else { break }
        let frame = Array(input[4..<(4 + length)])
        input.removeFirst(4 + length)
        if let kind = kind(frame) { return kind }
      }
      let now = monotonicNanoseconds()
      guard now < deadline else { throw .silent }
      var descriptor = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
      guard poll(&descriptor, 1, Int32((deadline - now) / 1_000_000) + 1) > 0 else { continue }
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      let count = recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      guard count > 0 else { throw .closed }
      input += buffer[..<count]
    }
  }

  private func kind(_ frame: [UInt8]) -> Kind? {
    guard frame.count >= 42 else { return nil }
    // An ARP reply whose sender is the gateway.
    if frame[12...13] == [0x08, 0x06], frame[20...21] == [0, 2], Array(frame[28..<32]) == gateway4.bytes {
      return .version4
    }
    // A neighbour advertisement with the gateway as target.
    if frame.count >= 78, frame[12...13] == [0x86, 0xdd], frame[20] == 58, frame[54] == 136,
      Array(frame[62..<78]) == gateway6.bytes
    {
      return .version6
    }
    return nil
  }
}
