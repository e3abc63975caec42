// passt (https://passt.top): a process that takes frames from a socket and makes the guest's connections with sockets of the
// host's. It has one end of a pair of sockets as descriptor 3, and ends when we close the other, by whatever cause.
//
// It answers for the gateway's addresses as soon as it works. So a question for each (ARP, RFC 826; neighbour solicitation,
// RFC 4861) tells that it does, and which versions of IP it has on this host.

import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorVMM

/// A running passt.
public struct Passt {
  /// Its descriptor of our socket.
  private static let socketDescriptor: Int32 = 3
  /// How long it may take to answer, in milliseconds.
  private static let patience: Int32 = 10_000
  /// What it may say.
  private static let reportLimit = 64 << 10

  /// To the guest's device.
  public let link: StreamLink
  /// What the guest's interface is to have.
  public let addresses: InterfaceAddresses

  /// Starts it, and waits until it works.
  /// - Parameter hardwareAddress: the guest's.
  /// - Throws: `NetworkFailure` when it is not there, may not do what it must, or a port can't be had.
  public init(_ network: UserNetwork, hardwareAddress: MACAddress) throws(NetworkFailure) {
    guard let program = Self.program() else {
      throw NetworkFailure("\(Setting.network): the user network needs passt: install it (Debian, Fedora: passt)")
    }
    for forwarding in network.forwardings { try Self.refuseTaken(forwarding) }
    let third = UserNetwork.freeNetwork()
    let resolvers = HostResolvers.current()
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw NetworkFailure(host: "socketpair", Errno(rawValue: errno))
    }
    let (own, other) = (ends[0], ends[1])
    // What it sends is lost where there is no room.
    for end in ends {
      var size: Int32 = 1 << 20
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
    let report = memfd_create("trivisor-passt", UInt32(CLINUX_MFD_CLOEXEC) | UInt32(CLINUX_MFD_ALLOW_SEALING))
    defer { if report >= 0 { close(report) } }
    // It can't fill the host's memory, nor wait for us to read.
    guard report >= 0, ftruncate(report, off_t(Self.reportLimit)) == 0,
      fcntl(report, CLINUX_F_ADD_SEALS, CLINUX_F_SEAL_GROW) == 0
    else {
      for end in ends { close(end) }
      throw NetworkFailure(host: "memfd_create", Errno(rawValue: errno))
    }
    let process: pid_t
    do throws(Errno) {
      process = try Self.spawn(
        program, Self.arguments(network, third, resolvers), socket: other, report: report)
    } catch {
      for end in ends { close(end) }
      throw NetworkFailure(host: "starting \(program)", error)
    }
    close(other)
    let found: GatewayProbe.Found
    do throws(GatewayProbe.Failure) {
      found = try GatewayProbe(
        own, from: hardwareAddress, guest4: UserNetwork.address4(.guest, network: third),
        gateway4: UserNetwork.address4(.gateway, network: third), gateway6: UserNetwork.address6(.gateway)
      ).run(milliseconds: Self.patience)
    } catch {
      close(own)
      let isGone = Self.end(process)
      throw Self.refusal(program, Self.text(report), silent: !isGone, network)
    }
    link = try StreamLink(connected: own, deliversValidChecksums: true) { _ = Self.end(process) }
    addresses = Self.addresses(found, third, resolvers)
  }

  private static func program() -> String? {
    let folders = getenv("PATH").map { String(cString: $0) } ?? ""
    for folder in folders.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/local/bin"]
    where folder.hasPrefix("/") {
      let path = folder + "/passt"
      if access(path, X_OK) == 0 { return path }
    }
    return nil
  }

  // MARK: Starting

  private static func arguments(_ network: UserNetwork, _ third: UInt8, _ resolvers: HostResolvers) -> [String] {
    let address4 = { (role: UserNetwork.Role) in "\(UserNetwork.address4(role, network: third))" }
    let address6 = { (role: UserNetwork.Role) in "\(UserNetwork.address6(role))" }
    var words = [
      "passt", "--foreground", "--quiet", "--fd", "\(socketDescriptor)", "--mtu", "65520",
      "--address", address4(.guest), "--netmask", "\(UserNetwork.prefixes.version4)", "--gateway", address4(.gateway),
      "--address", address6(.guest), "--gateway", address6(.gateway),
    ]
    if resolvers.servers.contains(where: { !$0.isVersion6 }) { words += ["--dns-forward", address4(.resolver)] }
    if resolvers.servers.contains(where: \.isVersion6) { words += ["--dns-forward", address6(.resolver)] }
    if !network.reachesLoopback { words.append("--no-map-gw") }
    for transport in [UserNetwork.Forwarding.Transport.tcp, .udp] {
      let option = transport == .tcp ? "--tcp-ports" : "--udp-ports"
      let chosen = network.forwardings.filter { $0.transport == transport }
      // Without, ports of the other kind would be forwarded, too.
      if chosen.isEmpty { words += [option, "none"] }
      for forwarding in chosen {
        words += [option, "\(forwarding.address)/\(forwarding.port):\(forwarding.guestPort)"]
      }
    }
    return words
  }

  /// In a session of its own: what is typed at our terminal does not end it.
  private static func spawn(
    _ program: String, _ words: [String], socket: Int32, report: Int32
  ) throws(Errno) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // In a bare chroot there is no such file.
    if access("/dev/null", R_OK | W_OK) == 0 {
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
      posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    } else {
      posix_spawn_file_actions_addclose(&actions, 0)
      posix_spawn_file_actions_addclose(&actions, 1)
    }
    posix_spawn_file_actions_adddup2(&actions, report, 2)
    // Also if it has that number already: then it only stays open.
    posix_spawn_file_actions_adddup2(&actions, socket, socketDescriptor)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var pipeSignal = sigset_t()
    sigemptyset(&pipeSignal)
    sigaddset(&pipeSignal, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &pipeSignal)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | CLINUX_POSIX_SPAWN_SETSID))
    var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    var process: pid_t = 0
    let error = posix_spawn(&process, program, &actions, &attributes, pointers, clinux_environment())
    guard error == 0 else { throw Errno(rawValue: error) }
    return process
  }

  /// Waits a while for its end, which the end of our socket has brought about, and brings it about otherwise.
  /// - Returns: whether it ended by itself.
  private static func end(_ process: pid_t) -> Bool {
    for _ in 0..<100 {
      let ended = waitpid(process, nil, WNOHANG)
      // A confined process may not wait for others: the host's first process does.
      if ended == process || ended < 0 && errno != EINTR { return true }
      usleep(10_000)
    }
    kill(process, SIGKILL)
    waitpid(process, nil, 0)
    return false
  }

  // MARK: Refusals

  /// Tells of a port that can't be had before passt does: it says less.
  private static func refuseTaken(_ forwarding: UserNetwork.Forwarding) throws(NetworkFailure) {
    let isTCP = forwarding.transport == .tcp
    let family = forwarding.address.isVersion6 ? AF_INET6 : AF_INET
    let type = isTCP ? SOCK_STREAM.rawValue : SOCK_DGRAM.rawValue
    let socket = Glibc.socket(family, Int32(type | SOCK_CLOEXEC.rawValue), 0)
    // A host without this version of IP: passt tells.
    guard socket >= 0 else { return }
    defer { close(socket) }
    // Of TCP, what only waits for its end is not in the way.
    var reuses: Int32 = isTCP ? 1 : 0
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &reuses, socklen_t(MemoryLayout<Int32>.size))
    var result: Int32
    if forwarding.address.isVersion6 {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = forwarding.port.bigEndian
      withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: forwarding.address.bytes) }
      result = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = forwarding.port.bigEndian
      withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: forwarding.address.bytes) }
      result = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
    if result == 0, isTCP { result = listen(socket, 1) }
    guard result != 0 else { return }
    let error = Errno(rawValue: errno)
    let port = "\(isTCP ? "TCP" : "UDP") port \(forwarding.port) of \(forwarding.address)"
    switch error {
    case .addressInUse: throw NetworkFailure("\(Setting.network): \(port) is in use: give another")
    case .permissionDenied:
      throw NetworkFailure(
        """
        \(Setting.network): \(port) is for root alone: give one from 1024 on, or lower \
        net.ipv4.ip_unprivileged_port_start
        """)
    case .addressNotAvailable:
      throw NetworkFailure("\(Setting.network): this host has no address \(forwarding.address)")
    default: throw NetworkFailure("\(Setting.network): \(port) can't be had: \(error)")
    }
  }

  private static func text(_ report: Int32) -> String {
    let bytes = [UInt8](unsafeUninitializedCapacity: reportLimit) { buffer, count in
      count = max(0, pread(report, buffer.baseAddress, buffer.count, 0))
    }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// What it says when it gives up, as a sentence of ours where we know it.
  static func refusal(
    _ program: String, _ report: String, silent: Bool, _ network: UserNetwork
  ) -> NetworkFailure {
    let lines = report.split(whereSeparator: \.isNewline).map(String.init)
      .filter { !$0.hasPrefix("Failed to send") && !$0.hasPrefix("Don't run as root") && !$0.isEmpty }
    if lines.contains(where: { $0.contains("namespace") }) {
      return NetworkFailure(
        """
        \(Setting.network): passt may not make namespaces for itself: let it call unshare and clone (in a container: \
        --security-opt seccomp=unconfined, and apparmor=unconfined where that is in force), and user namespaces where \
        it is not root (user.max_user_namespaces, kernel.unprivileged_userns_clone)
        """)
    }
    if lines.contains(where: { $0.contains("interface not usable") || $0.contains("routable interface") }) {
      return NetworkFailure(
        """
        \(Setting.network): this host has no network interface with a default route, which passt takes as its model: \
        give it one (in a container: a network other than none)
        """)
    }
    if silent {
      return NetworkFailure(
        "\(Setting.network): passt (\(program)) does not answer: it should be of 2023 or newer")
    }
    let said = lines.isEmpty ? "without a word" : lines.joined(separator: "; ")
    return NetworkFailure("\(Setting.network): passt (\(program)) ended: \(said)")
  }

  // MARK: Addresses

  static func addresses(
    _ found: GatewayProbe.Found, _ third: UInt8, _ resolvers: HostResolvers
  ) -> InterfaceAddresses {
    var addresses = InterfaceAddresses()
    var entries: [InterfaceAddresses.Entry?] = []
    if found.hasVersion4 {
      entries.append(
        .init(
          UserNetwork.address4(.guest, network: third), prefix: UserNetwork.prefixes.version4,
          gateway: UserNetwork.address4(.gateway, network: third)))
    }
    if found.hasVersion6 {
      entries.append(
        .init(
          UserNetwork.address6(.guest), prefix: UserNetwork.prefixes.version6,
          gateway: UserNetwork.address6(.gateway)))
    }
    addresses.entries = entries.compactMap { $0 }
    addresses.searchDomains = resolvers.searchDomains
    // A resolver elsewhere is asked itself, which goes by TCP as well.
    for server in resolvers.servers where server.isVersion6 ? found.hasVersion6 : found.hasVersion4 {
      let reached =
        server.isLoopback
        ? server.isVersion6 ? UserNetwork.address6(.resolver) : UserNetwork.address4(.resolver, network: third) : server
      if !addresses.resolvers.contains(reached) { addresses.resolvers.append(reached) }
    }
    return addresses
  }
}
