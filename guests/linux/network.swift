// A network interface of the guest's, by a step of the order that the host gives:
//
//     network=MAC,METRIC,MTU,ADDRESS/BITS/GATEWAY,…   an interface by its hardware address: its routes' metric, its MTU or 0,
//                                                     and any number of addresses, each with its gateway or nothing
//     names=TEXT                                      what /etc/resolv.conf is to hold
//
// Addresses are hexadecimal digits, numbers decimal ones. Addresses and routes are set by netlink (rtnetlink(7)); a client of
// DHCP is not needed.

import CLinuxGuest

struct NetworkSetup {
  /// Whether what is written to the root goes to the host's folder.
  let rootIsShared: Bool

  private enum Family {
    static let version4 = 2
    static let netlink = 16
    static let version6 = 10
  }

  /// include/uapi/linux/sockios.h.
  private enum Control {
    static let getName = 0x8910  // SIOCGIFNAME
    static let setMTU = 0x8922  // SIOCSIFMTU
    static let getHardwareAddress = 0x8927  // SIOCGIFHWADDR
  }

  /// Interfaces that a guest may have, counted from 1: more than the host gives it.
  private static let indexLimit: Int32 = 64
  /// How long a driver may take to find its device.
  private static let patienceMilliseconds = 5000

  // MARK: The interface

  /// Gives an interface its addresses.
  func configure(_ text: UnsafePointer<CChar>, _ channel: inout Channel) {
    var reader = StepReader(text)
    var hardware = NetworkBytes()
    hardware.read(&reader)
    let metric = reader.number()
    let mtu = reader.number()
    let socket = Linux.call(.socket, Family.version4, 2, 0)  // SOCK_DGRAM
    guard socket >= 0 else { refuse("the kernel has no network (CONFIG_INET)", nil, &channel) }
    defer { Linux.call(.close, socket) }
    var request = InterfaceRequest()
    let start = Linux.milliseconds
    var index = find(hardware, socket, &request)
    while index == 0, Linux.milliseconds - start < Self.patienceMilliseconds {
      var time = TimeSpecification(seconds: 0, nanoseconds: 10_000_000)
      withUnsafeMutablePointer(to: &time) { _ = Linux.call(.nanosleep, Linux.address($0), 0) }
      index = find(hardware, socket, &request)
    }
    guard index != 0 else {
      refuse(
        """
        the kernel finds no network interface (CONFIG_VIRTIO_NET, module virtio_net; for a paravirtual domain \
        CONFIG_XEN_NETDEV_FRONTEND, module xen-netfront): name the folder of its modules with --modules
        """, nil, &channel)
    }
    if mtu > 0 {
      request.value = Int32(truncatingIfNeeded: mtu)
      withUnsafeMutablePointer(to: &request) { _ = Linux.call(.ioctl, socket, Control.setMTU, Linux.address($0)) }
    }
    if reader.hasMore { ignoreAdvertisements(request) }
    raise(&request, socket)
    while reader.hasMore { addAddress(&reader, index, metric, &channel) }
  }

  /// - Returns: the interface's number, with `request` naming it; 0 if there is none with this address.
  private func find(_ hardware: NetworkBytes, _ socket: Int, _ request: inout InterfaceRequest) -> Int32 {
    for index in 1...Self.indexLimit {
      request = InterfaceRequest()
      request.value = index
      let isFound = withUnsafeMutablePointer(to: &request) { pointer in
        Linux.call(.ioctl, socket, Control.getName, Linux.address(pointer)) == 0
          && Linux.call(.ioctl, socket, Control.getHardwareAddress, Linux.address(pointer)) == 0
      }
      // A hardware address is behind its type, two bytes.
      let isSame = withUnsafeBytes(of: &request) { bytes in
        (0..<6).allSatisfy { bytes[18 + $0] == hardware[$0] }
      }
      if isFound, isSame { return index }
    }
    return 0
  }

  private func raise(_ request: inout InterfaceRequest, _ socket: Int) {
    // IFF_UP and IFF_RUNNING.
    request.value = 0x41
    withUnsafeMutablePointer(to: &request) {
      _ = Linux.call(.ioctl, socket, Linux.Control.setInterfaceFlags, Linux.address($0))
    }
  }

  /// The addresses are chosen; others would come by what routers say.
  private func ignoreAdvertisements(_ request: InterfaceRequest) {
    var path = Path("/proc/sys/net/ipv6/conf/")
    var request = request
    withUnsafeBytes(of: &request) { bytes in
      for index in 0..<16 where bytes[index] != 0 { path.append(bytes[index]) }
    }
    path.append("/accept_ra")
    let file = Linux.call(.open, path.address, Linux.Open.writeOnly | Linux.Open.closeOnExec)
    guard file >= 0 else { return }
    Linux.call(.write, file, Linux.address("0"), 1)
    Linux.call(.close, file)
  }

  private func addAddress(_ reader: inout StepReader, _ index: Int32, _ metric: Int, _ channel: inout Channel) {
    var address = NetworkBytes()
    address.read(&reader)
    let bits = reader.number()
    var gateway = NetworkBytes()
    gateway.read(&reader)
    let family = address.count == 16 ? Family.version6 : Family.version4
    var message = NetlinkMessage(.newAddress)
    message.append(UInt8(truncatingIfNeeded: family))
    message.append(UInt8(truncatingIfNeeded: bits))
    // Nobody else has it: IFA_F_NODAD.
    message.append(family == Family.version6 ? 2 : 0)
    message.append(0)
    message.append(word: UInt32(index))
    message.append(attribute: 2, address)  // IFA_LOCAL
    message.append(attribute: 1, address)  // IFA_ADDRESS
    guard send(&message) else {
      // A kernel without IPv6 does without.
      if family == Family.version6 { return }
      refuse("the kernel refuses its network's address", nil, &channel)
    }
    guard gateway.count > 0 else { return }
    message = NetlinkMessage(.newRoute)
    message.append(UInt8(truncatingIfNeeded: family))
    for _ in 0..<3 { message.append(0) }
    // RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST.
    message.append(word: 254 | 4 << 8 | 0 << 16 | 1 << 24)
    message.append(word: 0)
    message.append(attribute: 5, gateway)  // RTA_GATEWAY
    message.append(attribute: 4, word: UInt32(index))  // RTA_OIF
    if metric > 0 { message.append(attribute: 6, word: UInt32(truncatingIfNeeded: metric)) }  // RTA_PRIORITY
    if !send(&message), family == Family.version4 { refuse("the kernel refuses its network's route", nil, &channel) }
  }

  private func send(_ message: inout NetlinkMessage) -> Bool {
    let socket = Linux.call(.socket, Family.netlink, 3, 0)  // SOCK_RAW, NETLINK_ROUTE
    guard socket >= 0 else { return false }
    defer { Linux.call(.close, socket) }
    return message.send(over: socket) == 0
  }

  // MARK: Names

  /// Lays a file of ours over /etc/resolv.conf, so that the root's own stays as it is.
  func resolveNames(_ text: UnsafePointer<CChar>) {
    Linux.call(.mkdir, Linux.address("/run/trivisor"), 0o755)
    let own: StaticString = "/run/trivisor/resolv.conf"
    let flags = Linux.Open.writeOnly | Linux.Open.create | Linux.Open.closeOnExec
    let file = Linux.call(.open, Linux.address(own), flags, 0o644)
    guard file >= 0 else { return complain("there is no place for a resolv.conf") }
    var count = 0
    while text[count] != 0 { count += 1 }
    Linux.call(.write, file, Linux.address(text), count)
    Linux.call(.close, file)
    if bind(own) { return }
    let target = makeTarget()
    guard target, bind(own) else {
      return complain("the root has no /etc/resolv.conf, and names are resolved without: make an empty one")
    }
  }

  private func bind(_ own: StaticString) -> Bool {
    Linux.call(
      .mount, Linux.address(own), Linux.address("/etc/resolv.conf"), Linux.address("none"), Linux.Mount.bind) == 0
  }

  /// Makes what /etc/resolv.conf points to, or the file itself where that does not reach the host.
  private func makeTarget() -> Bool {
    let link = scratchBuffer()
    let count = Linux.call(
      .readlink, Linux.address("/etc/resolv.conf"), Linux.address(link), Int(SCRATCH_CAPACITY) - 1)
    var path = Path("/etc/")
    if count > 0 {
      if link[0] == 0x2f { path = Path("") }
      for index in 0..<count { path.append(link[index]) }
      // Of the host's folder, only what hides it is written to: /run.
      let isRun = isPrefix("/run/", path) || isPrefix("/etc/../run/", path)
      guard isRun || !rootIsShared else { return false }
      makeParents(path)
    } else {
      guard !rootIsShared else { return false }
      Linux.call(.mkdir, Linux.address("/etc"), 0o755)
    }
    let flags = Linux.Open.writeOnly | Linux.Open.create | Linux.Open.closeOnExec
    let file = Linux.call(.open, Linux.address("/etc/resolv.conf"), flags, 0o644)
    guard file >= 0 else { return false }
    Linux.call(.close, file)
    return true
  }

  private func isPrefix(_ prefix: StaticString, _ path: Path) -> Bool {
    guard path.count > prefix.utf8CodeUnitCount else { return false }
    return (0..<prefix.utf8CodeUnitCount).allSatisfy { path.bytes[$0] == prefix.utf8Start[$0] }
  }

  private func makeParents(_ path: Path) {
    for index in 1..<path.count where path.bytes[index] == 0x2f {
      path.bytes[index] = 0
      Linux.call(.mkdir, path.address, 0o755)
      path.bytes[index] = 0x2f
    }
  }
}

/// Reads a step's text: fields that end with a comma or a slash.
private struct StepReader {
  private let text: UnsafePointer<CChar>
  private var position = 0

  init(_ text: UnsafePointer<CChar>) { self.text = text }

  var hasMore: Bool { text[position] != 0 }

  /// The next byte of the field; `nil` at its end, which is passed.
  mutating func next() -> UInt8? {
    let byte = UInt8(bitPattern: text[position])
    guard byte != 0 else { return nil }
    position += 1
    return byte == 0x2c || byte == 0x2f ? nil : byte
  }

  mutating func number() -> Int {
    var number = 0
    while let byte = next() {
      if byte >= 0x30, byte <= 0x39, number < 1 << 30 { number = number * 10 + Int(byte - 0x30) }
    }
    return number
  }
}

/// Bytes of an address.
private struct NetworkBytes {
  private var bytes: [16 of UInt8] = .init(repeating: 0)
  private(set) var count = 0

  subscript(index: Int) -> UInt8 { bytes[index] }

  /// From hexadecimal digits.
  mutating func read(_ reader: inout StepReader) {
    while let high = reader.next(), let low = reader.next(), count < 16 {
      bytes[count] = digit(high) << 4 | digit(low)
      count += 1
    }
  }

  private func digit(_ byte: UInt8) -> UInt8 { byte & 0x40 != 0 ? (byte & 7) &+ 9 : byte & 15 }
}

/// A request to the kernel (include/uapi/linux/netlink.h, rtnetlink.h), in the scratch buffer.
private struct NetlinkMessage {
  enum Kind: UInt16 {
    case newAddress = 20
    case newRoute = 24
  }

  private static let headSize = 16
  private let bytes = scratchBuffer()
  private var count = 0

  init(_ kind: Kind) {
    append(word: 0)
    // NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE.
    append(word: UInt32(kind.rawValue) | 0x505 << 16)
    append(word: 1)
    append(word: 0)
  }

  mutating func append(_ byte: UInt8) {
    bytes[count] = byte
    count += 1
  }

  mutating func append(word: UInt32) {
    for index in 0..<4 { append(UInt8(truncatingIfNeeded: word >> UInt32(8 * index))) }
  }

  mutating func append(attribute: UInt32, _ value: NetworkBytes) {
    append(word: UInt32(4 + value.count) | attribute << 16)
    for index in 0..<value.count { append(value[index]) }
  }

  mutating func append(attribute: UInt32, word: UInt32) {
    append(word: 8 | attribute << 16)
    append(word: word)
  }

  /// - Returns: 0, or a negative error number.
  mutating func send(over socket: Int) -> Int {
    let total = count
    count = 0
    append(word: UInt32(total))
    let written = Linux.call(.write, socket, Linux.address(bytes), total)
    guard written == total else { return written }
    let received = Linux.call(.read, socket, Linux.address(bytes), Int(SCRATCH_CAPACITY))
    guard received >= Self.headSize + 4 else { return Linux.Failure.invalid }
    var error: UInt32 = 0
    for index in 0..<4 { error |= UInt32(bytes[Self.headSize + index]) << UInt32(8 * index) }
    return Int(Int32(bitPattern: error))
  }
}
