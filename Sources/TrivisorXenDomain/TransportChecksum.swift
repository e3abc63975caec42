/// Where a frame's TCP or UDP checksum is, for senders that only say that it is not done (RFC 791, 8200, 768, 9293).
struct TransportChecksum {
  /// What it is over begins here.
  let start: UInt16
  /// Where it is stored, from there on.
  let offset: UInt16

  /// - Returns: `nil` for frames without one.
  init?(_ frame: UnsafeRawBufferPointer) {
    var position = 14
    guard frame.count >= position else { return nil }
    var type = UInt16(frame[12]) << 8 | UInt16(frame[13])
    // A tag of a virtual network (IEEE 802.1Q).
    if type == 0x8100, frame.count >= 18 {
      type = UInt16(frame[16]) << 8 | UInt16(frame[17])
      position = 18
    }
    var transport: UInt8
    if type == 0x0800, frame.count >= position + 20 {
      transport = frame[position + 9]
      let words = Int(frame[position] & 15)
      guard words >= 5 else { return nil }
      position += 4 * words
    } else if type == 0x86dd, frame.count >= position + 40 {
      transport = frame[position + 6]
      position += 40
      // Hop-by-hop options, routing, destination options: their lengths are in units of eight bytes, the first not counted.
      while [0, 43, 60].contains(transport), frame.count >= position + 8 {
        transport = frame[position]
        position += 8 * (Int(frame[position + 1]) + 1)
      }
    } else {
      return nil
    }
    switch transport {
    case 6: offset = 16
    case 17: offset = 6
    default: return nil
    }
    guard position + Int(offset) + 2 <= frame.count else { return nil }
    start = UInt16(position)
  }
}
