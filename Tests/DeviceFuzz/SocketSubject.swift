import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorDevices
import TrivisorVMM

/// A socket device, with programs of the host's that connect, listen, write, read and go.
final class SocketSubject: FuzzSubject {
  private static let guest: UInt64 = 3
  private static let host: UInt64 = 2
  private static let hostPort: UInt32 = 7
  private static let firstConnectedPort: UInt32 = 1 << 30
  private static let transmit = 1
  private static let programLimit = 8

  private let folder: FuzzFolder
  private let listener: Int32
  private var programs: [Int32] = []
  private let sockets: VirtioSocket
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
  let features: VirtioFeatures = .bit(0)
  let memory: GuestMemory

  init() throws {
    folder = try FuzzFolder()
    memory = try GuestMemory(size: RandomGuest.memorySize)
    sockets = try VirtioSocket(SocketGate(path: folder.path.appending("v")), identifier: Self.guest)
    listener = HostSocket.listening(folder.path.appending("v_\(Self.hostPort)").string)
    guard listener >= 0 else { throw FuzzFinding("no socket to listen at") }
  }

  deinit {
    for program in programs { close(program) }
    close(listener)
    scratch.deallocate()
  }

  var device: any VirtioDevice { sockets }

  /// The head of a packet (virtio 1.2, 5.10.6), with its data.
  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    guard queue == Self.transmit else { return nil }
    let length = random.pick([0, 0, 0, 1, 64, 511, 1024])
    var packet = FuzzBytes()
    packet.put(random.chance(20) ? random.number(below: 6 as UInt64) : Self.guest)
    packet.put(random.chance(20) ? random.number(below: 6 as UInt64) : Self.host)
    packet.put(UInt32(random.pick([5, 6, 7, 8, 1024])))
    packet.put(random.chance(2) ? Self.hostPort : Self.firstConnectedPort + UInt32(random.number(below: 40)))
    packet.put(random.chance(12) ? UInt32(truncatingIfNeeded: random.next()) : UInt32(length))
    packet.put(UInt16(random.chance(20) ? 2 : 1))
    packet.put(UInt16(random.pick([1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, random.number(below: 10)])))
    packet.put(UInt32(random.number(below: 5)))
    packet.put(UInt32(truncatingIfNeeded: random.pick([0, 100, 1 << 16, random.next()])))
    packet.put(UInt32(truncatingIfNeeded: random.pick([0, 0, 100, random.next()])))
    packet.put(random.bytes(length))
    return FuzzRequest(bytes: packet.bytes, isWhole: !random.chance(6))
  }

  func hostStep(_ random: inout FuzzRandom) {
    switch random.number(below: 8) {
    case 0 where programs.count < Self.programLimit:
      let program = HostSocket.connected(folder.path.appending("v").string)
      guard program >= 0 else { return }
      programs.append(program)
      say("CONNECT \(5 + random.number(below: 4))\n", program)
    case 1 where programs.count < Self.programLimit:
      let accepted = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
      if accepted >= 0 { programs.append(accepted) }
    case 2 where !programs.isEmpty: close(programs.remove(at: random.number(below: programs.count)))
    case 3 where !programs.isEmpty: shutdown(random.pick(programs), Int32(random.number(below: 3)))
    case 4 where !programs.isEmpty: say(random.chance(10) ? "CONNECT \n" : "text", random.pick(programs))
    case 5 where !programs.isEmpty: _ = recv(random.pick(programs), scratch.baseAddress, scratch.count, 0)
    default: break
    }
  }

  private func say(_ text: String, _ program: Int32) {
    _ = Array(text.utf8).withUnsafeBytes { send(program, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  func check() throws {
    try FuzzFinding.require(sockets.connectionCount == 0, "connections outlived the driver")
  }
}
