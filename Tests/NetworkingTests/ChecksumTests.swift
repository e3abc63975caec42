import Testing
import TrivisorVMM

@testable import TrivisorNetworking

@Suite("Checksums")
struct ChecksumTests {
  /// Word by word, as RFC 1071 has it.
  private func plain(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt64 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
      sum += UInt64(bytes[index]) << 8 | UInt64(index + 1 < bytes.count ? bytes[index + 1] : 0)
    }
    while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
    return UInt16(sum).bigEndian
  }

  @Test("the sum of words is what the definition says, at every length and alignment")
  func sum() {
    var generator = SystemRandomNumberGenerator()
    for count in 0..<80 {
      let bytes = (0..<(count + 1)).map { _ in UInt8.random(in: 0...255, using: &generator) }
      let part = Array(bytes.dropFirst())
      let found = bytes.withUnsafeBytes { InternetChecksum.sum(UnsafeRawBufferPointer(rebasing: $0[1...])) }
      #expect(found == plain(part))
    }
    #expect([UInt8](repeating: 0xff, count: 65_535).withUnsafeBytes { InternetChecksum.sum($0) } == 0x00ff)
  }

  @Test("a checksum is completed in its place, and is never zero")
  func completed() {
    var frame = [UInt8](repeating: 0, count: 20)
    (frame[12], frame[13]) = (0x12, 0x34)
    var header = NetworkFrameHeader()
    (header.flags, header.checksumStart, header.checksumOffset) = (1, 10, 6)
    #expect(frame.withUnsafeMutableBytes { InternetChecksum.complete($0, header) })
    #expect(frame[16...17] == [0xed, 0xcb])
    frame = [UInt8](repeating: 0, count: 20)
    (frame[12], frame[13]) = (0xff, 0xff)
    #expect(frame.withUnsafeMutableBytes { InternetChecksum.complete($0, header) })
    #expect(frame[16...17] == [0xff, 0xff])
  }

  @Test("one that lies outside of the frame is refused", arguments: [(10, 9), (19, 0), (65_535, 65_535), (0, 19)])
  func outside(start: UInt16, offset: UInt16) {
    var frame = [UInt8](repeating: 0, count: 20)
    var header = NetworkFrameHeader()
    (header.flags, header.checksumStart, header.checksumOffset) = (1, start, offset)
    #expect(!frame.withUnsafeMutableBytes { InternetChecksum.complete($0, header) })
    #expect(frame == [UInt8](repeating: 0, count: 20))
  }
}
