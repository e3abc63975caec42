// GDB's remote protocol, the lowest layer ("GDB: The GNU Project Debugger", appendix E, "Overview"):
//
//     $data#cc      a packet with the sum of its bytes in two digits; `}` escapes a byte, which comes XORed with 0x20
//     + -           the last packet has come, or is to be sent again; neither once both have agreed on that
//     0x03          between packets: the guest is to stop
//
// Whoever is at the other end may send anything: what is longer than a packet can be, or no packet, is refused and forgotten.

/// What a debugger has sent.
enum PacketInput: Equatable {
  /// A packet whose sum is right, unescaped.
  case packet([UInt8])
  /// A packet whose sum is wrong, or that is longer than it may be.
  case spoiled
  /// Ctrl-C.
  case interrupt
  /// The last answer has not arrived as it was sent.
  case rejected
}

/// Makes packets of bytes, in whatever pieces they come.
struct PacketReader {
  private enum Place {
    case outside, data, escaped, firstDigit
    case secondDigit(UInt8?)
  }

  private var place = Place.outside
  private var data: [UInt8] = []
  private var sum: UInt8 = 0
  private var isTooLong = false

  /// - Parameter byte: the next one.
  /// - Returns: what it completes, if anything.
  mutating func take(_ byte: UInt8) -> PacketInput? {
    switch place {
    case .outside:
      switch byte {
      case UInt8(ascii: "$"): begin()
      case 0x03: return .interrupt
      case UInt8(ascii: "-"): return .rejected
      // Acknowledgements, and what is between packets by mistake.
      default: break
      }
      return nil
    case .data:
      if byte == UInt8(ascii: "#") {
        place = .firstDigit
      } else if byte == UInt8(ascii: "$") {
        // The end of the one before was lost.
        begin()
      } else {
        sum &+= byte
        if byte == UInt8(ascii: "}") { place = .escaped } else { append(byte) }
      }
      return nil
    case .escaped:
      sum &+= byte
      append(byte ^ 0x20)
      place = .data
      return nil
    case .firstDigit:
      place = .secondDigit(HexText.digit(byte))
      return nil
    case .secondDigit(let high):
      place = .outside
      guard !isTooLong, let high, let low = HexText.digit(byte), high << 4 | low == sum else { return .spoiled }
      return .packet(data)
    }
  }

  private mutating func begin() {
    place = .data
    data.removeAll(keepingCapacity: true)
    sum = 0
    isTooLong = false
  }

  private mutating func append(_ byte: UInt8) {
    if data.count < Packet.maximumLength { data.append(byte) } else { isTooLong = true }
  }
}

/// What goes to a debugger.
enum Packet {
  /// The most bytes in a packet of either direction, as it is told to the debugger.
  static let maximumLength = 0x10000

  /// Framed, with what needs it escaped. `*` is among that in answers: it would mean a run of equal bytes.
  static func framed(_ data: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = [UInt8(ascii: "$")]
    bytes.reserveCapacity(data.count + 4)
    for byte in data {
      switch byte {
      case UInt8(ascii: "$"), UInt8(ascii: "#"), UInt8(ascii: "}"), UInt8(ascii: "*"):
        bytes += [UInt8(ascii: "}"), byte ^ 0x20]
      default: bytes.append(byte)
      }
    }
    let sum = bytes.dropFirst().reduce(0 as UInt8, &+)
    return bytes + [UInt8(ascii: "#")] + HexText.digits(of: sum)
  }
}
