import Glibc
import Testing

@testable import TrivisorDebugger

/// A debugger's end of a connection, for tests: it says what a test wants and waits for the answers.
final class DebuggerClient {
  /// What a stop reply says.
  struct Stop: Equatable, CustomStringConvertible {
    var signal: UInt8
    var thread = 1
    var reason = ""

    var description: String { "signal \(signal), thread \(thread), \(reason)" }
  }

  private let descriptor: Int32
  private var reader = PacketReader()
  private var input: [UInt8] = []
  private let registers: RegisterSet

  /// - Parameter path: of a socket at which a machine waits, within some seconds.
  init(_ path: String, _ architecture: RegisterSet.Architecture = .x86_64) throws {
    registers = RegisterSet(architecture, hasAVX: true)
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    try #require(descriptor >= 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    var isConnected = false
    for _ in 0..<1000 where !isConnected {
      isConnected =
        withUnsafePointer(to: &address) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
          }
        } == 0
      if !isConnected { usleep(10_000) }
    }
    try #require(isConnected)
    var time = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    #expect(try ask("qSupported:swbreak+;hwbreak+").contains("vContSupported+"))
    #expect(try ask("QStartNoAckMode") == "OK")
  }

  deinit { close(descriptor) }

  func send(_ packet: String) { send(bytes: Packet.framed(Array(packet.utf8))) }

  func send(bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

  /// The next packet; a connection that is closed or silent fails the test.
  func receive() throws -> String {
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      while !input.isEmpty {
        if case .packet(let data)? = reader.take(input.removeFirst()) { return String(decoding: data, as: UTF8.self) }
      }
      let count = recv(descriptor, &buffer, buffer.count, 0)
      try #require(count > 0, "the connection has ended")
      input = Array(buffer[..<count])
    }
  }

  func ask(_ packet: String) throws -> String {
    send(packet)
    return try receive()
  }

  /// Resumes the guest until it stops; what it says meanwhile is passed over.
  func resume(_ packet: String = "vCont;c") throws -> Stop {
    send(packet)
    return try stop()
  }

  func stop() throws -> Stop {
    while true {
      let text = try receive()
      if text.hasPrefix("O") { continue }
      guard text.hasPrefix("T"), let signal = UInt8(text.dropFirst().prefix(2), radix: 16) else {
        Issue.record("\(text) is no stop")
        return Stop(signal: 0)
      }
      var stop = Stop(signal: signal)
      for part in text.dropFirst(3).split(separator: ";") {
        if part.hasPrefix("thread:") {
          stop.thread = Int(part.dropFirst(7), radix: 16) ?? 0
        } else {
          stop.reason = String(part)
        }
      }
      return stop
    }
  }

  func step() throws { #expect(try resume("vCont;s:1") == Stop(signal: 5)) }

  func insert(_ kind: Int, _ address: UInt64, _ length: Int = 1) throws {
    #expect(try ask("Z\(kind),\(String(address, radix: 16)),\(length)") == "OK")
  }

  func remove(_ kind: Int, _ address: UInt64, _ length: Int = 1) throws {
    #expect(try ask("z\(kind),\(String(address, radix: 16)),\(length)") == "OK")
  }

  private func number(_ register: String) throws -> Int {
    try #require(registers.registers.firstIndex { $0.name == register })
  }

  func register(_ name: String) throws -> UInt64 {
    let bytes = try #require(HexText.bytes(Array(try ask("p\(String(try number(name), radix: 16))").utf8)))
    return bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  func setRegister(_ name: String, _ value: UInt64) throws {
    let position = try number(name)
    let bytes = (0..<registers.registers[position].byteCount).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    let hex = String(decoding: HexText.digits(of: bytes), as: UTF8.self)
    #expect(try ask("P\(String(position, radix: 16))=\(hex)") == "OK")
  }

  func memory(_ address: UInt64, _ count: Int) throws -> [UInt8] {
    try #require(HexText.bytes(Array(try ask("m\(String(address, radix: 16)),\(String(count, radix: 16))").utf8)))
  }

  func word(_ address: UInt64) throws -> UInt64 {
    try memory(address, 8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
