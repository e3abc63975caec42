import TrivisorVMM

/// The checksum of IP, TCP and UDP (RFC 1071).
enum InternetChecksum {
  /// The ones' complement sum of all 16-bit words, in the machine's byte order, and a zero behind an odd byte.
  static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
    // Halves of words are added where they can't overflow: for 2^32 bytes and more.
    var (low, high): (UInt64, UInt64) = (0, 0)
    var position = 0
    while position + 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
      low &+= word & 0xffff_ffff
      high &+= word >> 32
      position += 8
    }
    var sum = low &+ high
    while position + 2 <= bytes.count {
      sum &+= UInt64(bytes.loadUnaligned(fromByteOffset: position, as: UInt16.self))
      position += 2
    }
    // On a little-endian host, the first byte of a word is its low one.
    if position < bytes.count { sum &+= UInt64(bytes[position]) }
    while sum > 0xffff { sum = (sum & 0xffff) &+ (sum >> 16) }
    return UInt16(truncatingIfNeeded: sum)
  }

  /// Completes a checksum of which the sender has only stored the sum of what is not in the packet.
  /// - Returns: whether it lies in the frame.
  static func complete(_ frame: UnsafeMutableRawBufferPointer, _ header: NetworkFrameHeader) -> Bool {
    let start = Int(header.checksumStart)
    let place = start + Int(header.checksumOffset)
    guard place + 2 <= frame.count else { return false }
    let sum = ~sum(UnsafeRawBufferPointer(rebasing: frame[start...]))
    // Zero would say that there is none (RFC 768), and is the same number as this.
    frame.storeBytes(of: sum == 0 ? 0xffff : sum, toByteOffset: place, as: UInt16.self)
    return true
  }
}
