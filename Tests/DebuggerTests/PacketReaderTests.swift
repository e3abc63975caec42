import Testing

@testable import TrivisorDebugger

@Suite struct PacketReaderTests {
  private func inputs(_ text: [UInt8]) -> [PacketInput] {
    var reader = PacketReader()
    return text.compactMap { reader.take($0) }
  }

  private func inputs(_ text: String) -> [PacketInput] { inputs(Array(text.utf8)) }

  @Test("A packet comes out as it was put in, whatever its bytes are")
  func roundTrip() {
    let data = Array(UInt8.min...UInt8.max)
    #expect(inputs(Packet.framed(data)) == [.packet(data)])
    #expect(Packet.framed(Array("OK".utf8)) == Array("$OK#9a".utf8))
  }

  @Test("Packets follow each other, with acknowledgements, Ctrl-C and noise between them")
  func stream() {
    #expect(
      inputs("+$g#67+\u{3}xyz-$?#3f")
        == [.packet(Array("g".utf8)), .interrupt, .rejected, .packet(Array("?".utf8))])
  }

  @Test("A wrong sum, digits that are none, and a packet that is cut off are not taken for packets")
  func spoiled() {
    #expect(inputs("$g#68") == [.spoiled])
    #expect(inputs("$g#zz") == [.spoiled])
    #expect(inputs("$m12$g#67") == [.packet(Array("g".utf8))])
    #expect(inputs("$g") == [])
  }

  @Test("Ctrl-C in a packet is one of its bytes")
  func interruptInData() {
    #expect(inputs(Packet.framed([3, 0x23, 0x24])) == [.packet([3, 0x23, 0x24])])
  }

  @Test("A packet that is longer than it may be is refused, and the next one is read")
  func tooLong() {
    let long = Packet.framed(Array(repeating: UInt8(ascii: "a"), count: Packet.maximumLength + 1))
    #expect(inputs(long + Array("$g#67".utf8)) == [.spoiled, .packet(Array("g".utf8))])
    let longest = Array(repeating: UInt8(ascii: "a"), count: Packet.maximumLength)
    #expect(inputs(Packet.framed(longest)) == [.packet(longest)])
  }

  @Test("Numbers are taken as long as they fit 64 bits")
  func numbers() {
    #expect(HexText.number(Array("ffffffffffffffff".utf8)) == .max)
    #expect(HexText.number(Array("10000000000000000".utf8)) == nil)
    #expect(HexText.number(Array("".utf8)) == nil)
    #expect(HexText.number(Array("0x1".utf8)) == nil)
    #expect(HexText.bytes(Array("00Ff7".utf8)) == nil)
    #expect(HexText.bytes(Array("00Ff".utf8)) == [0, 0xff])
  }
}

@Suite struct DebuggerAddressTests {
  @Test("Ports, sockets and what follows them")
  func places() throws {
    #expect(try DebuggerAddress("1234").place == .port(1234))
    #expect(try DebuggerAddress("0").place == .port(0))
    #expect(try !DebuggerAddress("1234").waits)
    let address = try DebuggerAddress("unix:/tmp/a,b,wait")
    #expect(address.place == .socket(path: "/tmp/a,b"))
    #expect(address.waits)
    #expect(try DebuggerAddress("1,i386,wait").architecture == .i386)
    #expect(try DebuggerAddress("1,wait,x86-64").architecture == .x86_64)
  }

  @Test(
    "What is no place is refused",
    arguments: [
      "", "wait", ",wait", "65536", "-1", "1234x", "0x10", "01234", "unix:", "unix:,wait", "localhost:1234", "1234,now",
      "unix:" + String(repeating: "x", count: 108), "unix:a\0b", "１２",
    ])
  func refused(_ text: String) {
    #expect(throws: DebuggerFailure.self) { try DebuggerAddress(text) }
  }
}
