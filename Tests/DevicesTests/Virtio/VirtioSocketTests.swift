import TrivisorDeviceFuzz
import TrivisorCLinux
import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio sockets", .timeLimit(.minutes(15)))
struct VirtioSocketTests {
  private func hostBegins(_ guest: SocketDriver, port: UInt32 = 52) throws -> (HostProgram, hostPort: UInt32) {
    let program = try HostProgram.connecting(guest.path)
    program.write("CONNECT \(port)\n")
    let request = try #require(guest.next()).packet
    #expect(request.operation == SocketPacket.Operation.request.rawValue)
    #expect(request.destinationPort == port && request.destination == 3 && request.source == 2)
    #expect(request.room == SocketConnection.room)
    guest.send(.response, guestPort: port, hostPort: request.sourcePort)
    #expect(String(decoding: program.read(), as: UTF8.self) == "OK \(request.sourcePort)\n")
    return (program, request.sourcePort)
  }

  private func guestBegins(
    _ guest: SocketDriver, guestPort: UInt32 = 1025, port: UInt32 = 7
  ) throws -> (HostProgram, HostProgram) {
    let listener = try HostProgram.listening(guest.path, port: port)
    guest.send(.request, guestPort: guestPort, hostPort: port)
    let response = try #require(guest.next()).packet
    #expect(response.operation == SocketPacket.Operation.response.rawValue)
    #expect(response.destinationPort == guestPort && response.sourcePort == port)
    let program = try #require(listener.accept())
    unlink("\(guest.path)_\(port)")
    return (program, listener)
  }

  @Test("a program of the host's reaches the guest's listener, and bytes go both ways")
  func hostToGuest() throws {
    let guest = try SocketDriver()
    guest.open()
    #expect(guest.driver.read(0x100, width: .quadword) == 3)
    let (program, hostPort) = try hostBegins(guest)
    program.write("to the guest")
    let (packet, data) = try #require(guest.next())
    #expect(packet.operation == SocketPacket.Operation.data.rawValue && packet.length == 12)
    #expect(String(decoding: data, as: UTF8.self) == "to the guest")
    guest.send(.data, guestPort: 52, hostPort: hostPort, forwarded: 12, Array("to the host".utf8))
    #expect(String(decoding: program.read(), as: UTF8.self) == "to the host")
    #expect(guest.device.connectionCount == 1)
  }

  @Test("what follows the line at once is the stream's; a line that is none ends the connection")
  func lines() throws {
    let guest = try SocketDriver()
    guest.open()
    let program = try HostProgram.connecting(guest.path)
    program.write("CONNECT 9\nearly")
    let request = try #require(guest.next()).packet
    guest.send(.response, guestPort: 9, hostPort: request.sourcePort)
    #expect(String(decoding: try #require(guest.next()).data, as: UTF8.self) == "early")
    for line in [
      "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", "connect 9\n", "CONNECT -1\n", "CONNECT 1 2\n", "\n",
    ]
      + [String(repeating: "C", count: 100)]
    {
      let program = try HostProgram.connecting(guest.path)
      program.write(line)
      guest.run()
      #expect(program.read().isEmpty)
    }
    #expect(guest.device.connectionCount == 1)
  }

  @Test("a guest's connection goes to who listens at the path with its port, and is refused where nobody does")
  func guestToHost() throws {
    let guest = try SocketDriver()
    guest.open()
    let (program, listener) = try guestBegins(guest)
    guest.send(.data, guestPort: 1025, hostPort: 7, Array("hello".utf8))
    #expect(String(decoding: program.read(), as: UTF8.self) == "hello")
    program.write("yes")
    #expect(String(decoding: try #require(guest.next()).data, as: UTF8.self) == "yes")
    guest.send(.request, guestPort: 1026, hostPort: 8)
    #expect(try #require(guest.next()).packet.operation == SocketPacket.Operation.reset.rawValue)
    #expect(guest.device.connectionCount == 1)
    withExtendedLifetime(listener) {}
  }

  @Test("the guest gets no more than it has room for, and the host's program waits")
  func creditOfGuest() throws {
    let guest = try SocketDriver()
    guest.open()
    let program = try HostProgram.connecting(guest.path)
    program.write("CONNECT 52\n")
    let hostPort = try #require(guest.next()).packet.sourcePort
    guest.send(.response, guestPort: 52, hostPort: hostPort, room: 6000)
    _ = program.read()
    let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    program.write(bytes)
    var got: [UInt8] = []
    while let (packet, data) = guest.next() {
      if packet.operation == SocketPacket.Operation.creditRequest.rawValue { break }
      #expect(packet.operation == SocketPacket.Operation.data.rawValue)
      got += data
    }
    #expect(got == Array(bytes[..<6000]))
    #expect(guest.pending() == nil)
    // What it says of its room need not be true.
    guest.send(.creditUpdate, guestPort: 52, hostPort: hostPort, room: 6000, forwarded: 0xffff_0000)
    #expect(guest.pending() == nil)
    guest.send(.creditUpdate, guestPort: 52, hostPort: hostPort, room: 1 << 20, forwarded: 6000)
    while got.count < bytes.count, let (_, data) = guest.next() { got += data }
    #expect(got == bytes)
  }

  @Test("bytes that the host's program does not read are kept within the guest's credit, which more would break")
  func creditOfHost() throws {
    let guest = try SocketDriver()
    guest.open()
    let (program, listener) = try guestBegins(guest)
    let block = [UInt8](repeating: 0x5a, count: 32 << 10)
    var sent = 0
    var known: UInt32 = 0
    // The host's socket takes some, and tells so; then the room of the connection fills.
    for _ in 0..<200 where UInt32(truncatingIfNeeded: sent) &- known + UInt32(block.count) <= SocketConnection.room {
      guest.send(.data, guestPort: 1025, hostPort: 7, block)
      sent += block.count
      while let (packet, _) = guest.pending() {
        #expect(packet.operation == SocketPacket.Operation.creditUpdate.rawValue)
        known = packet.forwarded
      }
    }
    #expect(sent > 64 << 10)
    // The program reads: the guest hears of it.
    var got = 0
    while got < sent {
      got += program.read(exactly: min(100_000, sent - got)).count
      while let (packet, _) = guest.pending() { known = packet.forwarded }
    }
    #expect(got == sent)
    #expect(Int(known) > sent - Int(SocketConnection.room))
    // Beyond the credit.
    for _ in 0..<20 { guest.send(.data, guestPort: 1025, hostPort: 7, block) }
    var wasReset = false
    while let (packet, _) = guest.pending() {
      wasReset = wasReset || packet.operation == SocketPacket.Operation.reset.rawValue
    }
    #expect(wasReset)
    #expect(guest.device.connectionCount == 0)
    withExtendedLifetime(listener) {}
  }

  @Test("either side ends one direction, or all")
  func endings() throws {
    let guest = try SocketDriver()
    guest.open()
    // The host's program sends no more, and still reads.
    var (program, hostPort) = try hostBegins(guest)
    program.write("last")
    shutdown(program.raw, Int32(SHUT_WR))
    #expect(String(decoding: try #require(guest.next()).data, as: UTF8.self) == "last")
    var ending = try #require(guest.next()).packet
    #expect(ending.operation == SocketPacket.Operation.shutdown.rawValue && ending.flags == 2)
    guest.send(.data, guestPort: 52, hostPort: hostPort, Array("answer".utf8))
    #expect(String(decoding: program.read(), as: UTF8.self) == "answer")
    // The guest ends both: what it sent arrives, then the end.
    guest.send(.data, guestPort: 52, hostPort: hostPort, Array("bye".utf8))
    guest.send(.shutdown, guestPort: 52, hostPort: hostPort, flags: 3)
    #expect(try #require(guest.next()).packet.operation == SocketPacket.Operation.reset.rawValue)
    #expect(String(decoding: program.read(), as: UTF8.self) == "bye")
    #expect(program.read().isEmpty)
    #expect(guest.device.connectionCount == 0)
    // The host's program is killed.
    do {
      let (killed, port) = try hostBegins(guest)
      hostPort = port
      withExtendedLifetime(killed) {}
    }
    var flags: UInt32 = 0
    while flags != 3 {
      ending = try #require(guest.next()).packet
      #expect(ending.operation == SocketPacket.Operation.shutdown.rawValue)
      flags |= ending.flags
    }
    guest.send(.reset, guestPort: 52, hostPort: hostPort)
    #expect(guest.device.connectionCount == 0)
    // The guest's program is, before it answered.
    program = try HostProgram.connecting(guest.path)
    program.write("CONNECT 53\n")
    hostPort = try #require(guest.next()).packet.sourcePort
    guest.send(.reset, guestPort: 53, hostPort: hostPort)
    #expect(program.read().isEmpty)
    #expect(guest.device.connectionCount == 0)
  }

  @Test("packets that make no sense are answered by a reset, and never more of those kept than a bound")
  func nonsense() throws {
    let guest = try SocketDriver()
    guest.open(buffers: 0)
    var packet = SocketPacket(.data, to: 2, guestPort: 1, hostPort: 2)
    (packet.source, packet.type) = (3, 2)
    for _ in 0..<300 { guest.send(packet) }
    // The device takes no more of them until it can answer.
    let waiting = guest.driver.load(UInt16.self, at: guest.transmit.available + 2)
    #expect(guest.driver.usedIndex(guest.transmit) < waiting)
    #expect(guest.driver.usedIndex(guest.transmit) == 256)
    #expect(!guest.driver.isBroken)
  }

  @Test("the device's driver is gone: so are the connections; the socket goes with its owner", .timeLimit(.minutes(15)))
  func reset() throws {
    let path = SocketDriver.freshPath()
    do {
      let guest = try SocketDriver(path)
      guest.open()
      let (program, _) = try hostBegins(guest)
      guest.driver.write(VirtioDriver.Register.status, 0)
      #expect(program.read().isEmpty)
      #expect(guest.device.connectionCount == 0)
      // Another machine can't have the same path meanwhile.
      #expect(throws: DeviceFailure.self) { try SocketGate(path: path) }
    }
    while access(path.string, F_OK) == 0 { usleep(1000) }
  }

  @Test("a path that can't be is refused; a socket that a killed run has left is taken over")
  func paths() throws {
    #expect(throws: DeviceFailure.self) { try SocketGate(path: "/nonexistent/socket") }
    #expect(throws: DeviceFailure.self) { try SocketGate(path: "/dev/null") }
    #expect(throws: DeviceFailure.self) { try SocketGate(path: FilePath("/tmp/" + String(repeating: "x", count: 100))) }
    let path = SocketDriver.freshPath()
    do { withExtendedLifetime(try HostProgram.listening(FilePath(String(path.string.dropLast(2))), port: 1)) {} }
    let left = FilePath(String(path.string.dropLast(2)) + "_1")
    let gate = try SocketGate(path: left)
    #expect(access(left.string, F_OK) == 0)
    withExtendedLifetime(gate) {}
  }

  @Test("a restored device has no connections, and tells its driver")
  func saved() throws {
    let guest = try SocketDriver()
    guest.open()
    let (program, _) = try hostBegins(guest)
    let other = try SocketDriver()
    try other.driver.memory.restore(guest.driver.memory.save())
    try other.driver.device.restore(guest.driver.device.save())
    other.driver.describe(other.event, 0, address: 0x2_0000, length: 4, flags: 2)
    other.driver.store(UInt32(0xffff_ffff), at: 0x2_0000)
    other.driver.publish(other.event, head: 0)
    other.run()
    #expect(other.driver.usedEntry(other.event, 0).length == 4)
    #expect(other.driver.load(UInt32.self, at: 0x2_0000) == 0)
    #expect(other.device.connectionCount == 0)
    // The first one goes on.
    program.write("more")
    #expect(String(decoding: try #require(guest.next()).data, as: UTF8.self) == "more")
  }

  @Test("a thousand connections, each with bytes both ways, and nothing left")
  func many() throws {
    let before = descriptors()
    do {
      let guest = try SocketDriver()
      guest.open()
      for round in 0..<5 {
        var programs: [(HostProgram, UInt32)] = []
        for index in 0..<200 {
          let (program, port) = try hostBegins(guest, port: UInt32(1000 + index))
          program.write("p\(index)")
          #expect(String(decoding: try #require(guest.next()).data, as: UTF8.self) == "p\(index)")
          programs.append((program, port))
        }
        #expect(guest.device.connectionCount == 200)
        if round % 2 == 0 {
          for (index, (_, port)) in programs.enumerated() {
            guest.send(.shutdown, guestPort: UInt32(1000 + index), hostPort: port, flags: 3)
            #expect(try #require(guest.next()).packet.operation == SocketPacket.Operation.reset.rawValue)
          }
        } else {
          programs = []
          while guest.device.connectionCount > 0, let (packet, _) = guest.next() {
            guest.send(.reset, guestPort: packet.destinationPort, hostPort: packet.sourcePort)
          }
        }
        #expect(guest.device.connectionCount == 0)
      }
    }
    // Other tests run meanwhile: far fewer than there were connections.
    #expect(descriptors() < before + 100)
  }

  private func descriptors() -> Int {
    guard let folder = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count
  }
}
