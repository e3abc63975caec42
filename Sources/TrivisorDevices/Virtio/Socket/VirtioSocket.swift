// A virtio socket device (virtio 1.2, 5.10): streams between programs of the host's and of the guest's.
//
// One thread does everything: it serves the driver's queues, and by a descriptor it hears of the host's sockets, each of
// which tells once that it has become readable or writable. What has something for the guest stands in a line, and gets its
// turn, one packet at a time, as buffers come.
//
//     gate ──accept──▶                                         ◀── transmit queue: REQUEST, RW, SHUTDOWN …
//     host's sockets ──readable──▶ line of connections ──packets──▶ receive queue
//                    ◀──────────── bytes of RW; what isn't taken is kept, within the credit that the guest was given
//
// Bounds: `connectionLimit` connections, `SocketConnection.room` bytes kept of each, `answerLimit` answers to packets that
// belong to none; when these wait, the transmit queue does, too (5.10.6.3).
//
// A restored device has no connections: the driver is told by the event "transport reset" (5.10.6.7), and ends its sockets.

import Glibc
import Synchronization
import SystemPackage
import TrivisorCSockets
import TrivisorVMM

/// Sockets between guest and host.
public final class VirtioSocket: VirtioDevice {
  /// The identifiers that a guest can have: 0 to 2 and the two greatest mean something else.
  public static let identifiers: ClosedRange<UInt64> = 3...UInt64(UInt32.max) - 2
  /// At a time.
  public static let connectionLimit = 2048

  private static let streamFeature = VirtioFeatures.bit(0)
  private static let answerLimit = 256
  /// Ports of the host's ends of connections that the host begins (Firecracker's convention).
  private static let firstHostPort: UInt32 = 1 << 30
  /// What `epoll` calls the gate's listener; connections are numbered from 1.
  private static let listenerName: UInt64 = 0
  private static let transportReset: UInt32 = 0

  private enum Queue {
    static let receive = 0
    static let transmit = 1
    static let event = 2
  }

  private struct Ports: Hashable {
    var guest: UInt32
    var host: UInt32
  }

  // Unchecked: the mutex guards it, connections included.
  private struct State: @unchecked Sendable {
    var host: VirtioHost?
    var isOpen = false
    var connections: [UInt64: SocketConnection] = [:]
    /// Those whose two ends know each other.
    var names: [Ports: UInt64] = [:]
    var nextName: UInt64 = 1
    var nextHostPort = VirtioSocket.firstHostPort
    /// Of connections that have something for the guest; one that is gone stays until its turn.
    var line: [UInt64] = []
    var lineStart = 0
    var answers: [SocketPacket] = []
    /// A program may have connected that was not accepted.
    var listenerIsReadable = true
    /// Something came to the line or the answers since the receive queue was looked at.
    var hasNews = false
    var owesTransportReset = false
  }

  private let gate: SocketGate
  private let identifier: UInt64
  private let poll: Int32
  private let state = Mutex(State())

  /// - Parameters:
  ///   - gate: the host's side.
  ///   - identifier: the guest's address, one of `identifiers`.
  /// - Throws: `DeviceFailure` when the host gives no descriptor.
  public init(_ gate: SocketGate, identifier: UInt64) throws(DeviceFailure) {
    self.gate = gate
    self.identifier = identifier
    poll = sockets_make_poll()
    guard poll >= 0 else { throw DeviceFailure(call: "epoll_create1", Errno(rawValue: -poll)) }
    let watched = sockets_watch(poll, gate.listener, Self.listenerName)
    guard watched == 0 else {
      close(poll)
      throw DeviceFailure(call: "epoll_ctl", Errno(rawValue: -watched))
    }
  }

  deinit { close(poll) }

  /// Socket.
  public let deviceID = VirtioDeviceID.socket
  /// Streams.
  public let features: VirtioFeatures = [VirtioSocket.streamFeature]
  /// Receive, transmit, events.
  public let queueSizes: [UInt16] = [256, 256, 16]
  /// What the host's sockets do.
  public var threads: [VirtioThread] { [VirtioThread(queueSizes.indices, eventDescriptor: poll)] }

  /// The guest's identifier.
  public func configuration(at offset: UInt64) -> UInt8 {
    offset < 8 ? UInt8(truncatingIfNeeded: identifier >> (8 * offset)) : 0
  }

  /// Keeps the way to the driver.
  public func attach(to host: VirtioHost) { state.withLock { $0.host = host } }

  /// From now on programs of the host's are accepted.
  public func start(features: VirtioFeatures) { state.withLock { $0.isOpen = true } }

  /// The driver's sockets are gone, and so all connections.
  public func reset() {
    state.withLock { state in
      Self.drop(&state)
      state.isOpen = false
      state.owesTransportReset = false
    }
  }

  private static func drop(_ state: inout State) {
    state.connections = [:]
    state.names = [:]
    state.line = []
    state.lineStart = 0
    state.answers = []
    state.listenerIsReadable = true
  }

  /// How many there are, for whoever counts.
  public var connectionCount: Int { state.withLock { $0.connections.count } }

  // MARK: Queues

  /// Hears of the host's sockets, gives the guest what there is for it, and takes what it sends.
  public func process(_ queue: VirtioQueue) {
    switch queue.index {
    case Queue.receive:
      takeEvents()
      state.withLock { $0.hasNews = false }
      queue.drain { chain in state.withLock { giveNext(&chain, &$0) } }
    case Queue.transmit:
      queue.drain { chain in state.withLock { take(&chain, &$0) } }
      // The receive queue was looked at before.
      let host = state.withLock { $0.hasNews ? $0.host : nil }
      host?.wake()
    case Queue.event:
      queue.drain { chain in
        state.withLock { state in
          guard state.owesTransportReset else { return .later }
          state.owesTransportReset = false
          let written = withUnsafeBytes(of: Self.transportReset) { chain.writable.write($0) }
          return .completed(written: UInt32(written))
        }
      }
    default: break
    }
  }

  private func schedule(_ connection: SocketConnection, _ state: inout State) {
    guard !connection.isScheduled, connection.hasSomething else { return }
    connection.isScheduled = true
    state.line.append(connection.name)
    state.hasNews = true
  }

  private static func takeTurn(_ state: inout State) -> SocketConnection? {
    while state.lineStart < state.line.count {
      let name = state.line[state.lineStart]
      state.lineStart += 1
      if state.lineStart >= 64, state.lineStart * 2 >= state.line.count {
        state.line.removeFirst(state.lineStart)
        state.lineStart = 0
      }
      guard let connection = state.connections[name] else { continue }
      connection.isScheduled = false
      return connection
    }
    return nil
  }

  /// Fills one of the guest's buffers with the next packet.
  private func giveNext(_ chain: inout DescriptorChain, _ state: inout State) -> VirtioQueue.Disposition {
    guard let head = chain.writable.takeFirst(SocketPacket.size) else { return .malformed }
    if !state.answers.isEmpty {
      state.answers.removeFirst().store(to: head)
      return .completed(written: UInt32(SocketPacket.size))
    }
    while let connection = Self.takeTurn(&state) {
      var packet = SocketPacket(.reset, to: identifier, guestPort: 0, hostPort: 0)
      let isGiven = connection.next(&packet, &chain.writable)
      if connection.owesReset {
        remove(connection, &state)
      } else if isGiven {
        schedule(connection, &state)
        settle(connection, &state)
      }
      guard isGiven else { continue }
      packet.store(to: head)
      return .completed(written: UInt32(SocketPacket.size) + packet.length)
    }
    return .later
  }

  // MARK: The host's sockets

  private func takeEvents() {
    let limit = 64
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: limit) { names in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: limit) { events in
        guard let firstName = names.baseAddress, let firstEvent = events.baseAddress else { return }
        while true {
          let count = sockets_take(poll, firstName, firstEvent, Int32(limit))
          guard count > 0 else { break }
          state.withLock { state in
            for index in 0..<Int(count) { take(names[index], events[index], &state) }
          }
          if count < limit { break }
        }
      }
    }
    state.withLock { acceptAll(&$0) }
  }

  private func take(_ name: UInt64, _ events: UInt32, _ state: inout State) {
    if name == Self.listenerName {
      state.listenerIsReadable = true
      return
    }
    guard let connection = state.connections[name] else { return }
    if connection.phase == .accepted { return readLine(connection, &state) }
    if events & SOCKETS_READABLE != 0 { connection.isReadable = true }
    // Nobody is there who would take anything.
    if events & SOCKETS_CLOSED != 0 { connection.hostEnded(.receiving) }
    if events & SOCKETS_WRITABLE != 0 { connection.flush() }
    schedule(connection, &state)
    settle(connection, &state)
  }

  /// Programs of the host's that have connected, as many as there is room for.
  private func acceptAll(_ state: inout State) {
    while state.isOpen, state.listenerIsReadable, state.connections.count < Self.connectionLimit {
      switch gate.accept() {
      case .descriptor(let descriptor):
        if let connection = add(descriptor, .accepted, &state) { readLine(connection, &state) }
      case .nobody:
        state.listenerIsReadable = false
      case .noRoom:
        // Nobody will tell again: the next connection that ends makes this look once more.
        return
      }
    }
  }

  private func add(
    _ descriptor: Int32, _ phase: SocketConnection.Phase, _ state: inout State
  ) -> SocketConnection? {
    let connection = SocketConnection(name: state.nextName, descriptor: descriptor, phase: phase)
    state.nextName += 1
    guard sockets_watch(poll, descriptor, connection.name) == 0 else { return nil }
    state.connections[connection.name] = connection
    return connection
  }

  private func readLine(_ connection: SocketConnection, _ state: inout State) {
    switch connection.takeLine() {
    case .incomplete: break
    case .wrong: remove(connection, &state)
    case .port(let port):
      connection.guestPort = port
      connection.hostPort = Self.freeHostPort(port, &state)
      connection.phase = .requested
      connection.owesRequest = true
      state.names[Ports(guest: port, host: connection.hostPort)] = connection.name
      schedule(connection, &state)
    }
  }

  /// There are far more ports than connections.
  private static func freeHostPort(_ guestPort: UInt32, _ state: inout State) -> UInt32 {
    while true {
      let port = state.nextHostPort
      state.nextHostPort = port == UInt32.max - 1 ? firstHostPort : port + 1
      if state.names[Ports(guest: guestPort, host: port)] == nil { return port }
    }
  }

  private func remove(_ connection: SocketConnection, _ state: inout State) {
    connection.close()
    state.connections[connection.name] = nil
    forgetPorts(connection, &state)
    // Somebody may have waited for its place.
    if state.listenerIsReadable { state.hasNews = true }
  }

  private func forgetPorts(_ connection: SocketConnection, _ state: inout State) {
    let ports = Ports(guest: connection.guestPort, host: connection.hostPort)
    if state.names[ports] == connection.name { state.names[ports] = nil }
  }

  /// What a draining connection still had has gone.
  private func settle(_ connection: SocketConnection, _ state: inout State) {
    if connection.phase == .draining, !connection.keepsBytes { remove(connection, &state) }
  }

  // MARK: From the guest

  private func take(_ chain: inout DescriptorChain, _ state: inout State) -> VirtioQueue.Disposition {
    guard state.answers.count < Self.answerLimit else { return .later }
    guard let packet = SocketPacket(&chain.readable) else { return .malformed }
    guard Int(packet.length) <= chain.readable.byteCount else { return .malformed }
    chain.readable.keepFirst(Int(packet.length))
    take(packet, &chain.readable, &state)
    return .completed(written: 0)
  }

  private func take(_ packet: SocketPacket, _ payload: inout BufferList, _ state: inout State) {
    let operation = SocketPacket.Operation(rawValue: packet.operation)
    guard packet.source == identifier, packet.destination == SocketPacket.hostIdentifier,
      packet.type == SocketPacket.stream, let operation
    else { return refuse(packet, &state) }
    let name = state.names[Ports(guest: packet.sourcePort, host: packet.destinationPort)]
    guard let connection = name.flatMap({ state.connections[$0] }) else {
      return operation == .request ? connect(packet, &state) : refuse(packet, &state)
    }
    connection.note(packet)
    switch (operation, connection.phase) {
    case (.response, .requested):
      connection.phase = .established
      if !connection.confirm() { connection.hostEnded(.both) }
    case (.reset, _):
      drain(connection, &state)
    case (.shutdown, .established):
      connection.guestEnded(SocketPacket.Ending(rawValue: packet.flags).intersection(.both))
      if connection.hasEnded {
        answer(.reset, packet, &state)
        drain(connection, &state)
      }
    case (.data, .established):
      if !connection.take(&payload) { connection.owesReset = true }
    case (.creditUpdate, .established): break
    case (.creditRequest, .established): connection.oweCredit()
    default: connection.owesReset = true
    }
    schedule(connection, &state)
  }

  private func connect(_ packet: SocketPacket, _ state: inout State) {
    guard state.connections.count < Self.connectionLimit,
      let descriptor = gate.connect(port: packet.destinationPort)
    else { return refuse(packet, &state) }
    guard let connection = add(descriptor, .established, &state) else { return refuse(packet, &state) }
    (connection.guestPort, connection.hostPort) = (packet.sourcePort, packet.destinationPort)
    connection.owesResponse = true
    connection.note(packet)
    state.names[Ports(guest: packet.sourcePort, host: packet.destinationPort)] = connection.name
    schedule(connection, &state)
  }

  /// The guest has let go of it.
  private func drain(_ connection: SocketConnection, _ state: inout State) {
    forgetPorts(connection, &state)
    guard connection.phase == .established, connection.keepsBytes else { return remove(connection, &state) }
    connection.phase = .draining
  }

  /// A packet of no connection that there is, or that can be.
  private func refuse(_ packet: SocketPacket, _ state: inout State) {
    if packet.operation != SocketPacket.Operation.reset.rawValue { answer(.reset, packet, &state) }
  }

  private func answer(_ operation: SocketPacket.Operation, _ packet: SocketPacket, _ state: inout State) {
    var answer = SocketPacket(
      operation, to: packet.source, guestPort: packet.sourcePort, hostPort: packet.destinationPort)
    answer.source = packet.destination
    answer.type = packet.type
    state.answers.append(answer)
    state.hasNews = true
  }
}

// MARK: Saved form

extension VirtioSocket {
  /// Connections are not in it: their other ends are the host's.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var identifier: UInt64
    var owesTransportReset: Bool
  }

  /// The guest's address.
  public func save() -> VirtioDeviceState {
    .socket(Saved(identifier: identifier, owesTransportReset: state.withLock { $0.owesTransportReset }))
  }

  /// Ends all connections; a driver that is ready is told so.
  /// - Throws: `RestoreFailure` for another device's.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .socket(let socket) = saved else { throw RestoreFailure("socket device", "it is another device's") }
    try restoring(
      "socket device", requires: Self.identifiers.contains(socket.identifier),
      "a guest can't have the identifier \(socket.identifier)")
    state.withLock { state in
      Self.drop(&state)
      state.isOpen = features != nil
      // By this event a driver also learns of another identifier.
      state.owesTransportReset = features != nil
    }
    return false
  }
}
