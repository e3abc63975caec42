import Testing

@testable import TrivisorBoot

@Suite("Where a sequence of bytes is")
struct ByteSearchTests {
  @Test("the first place, at either end, or none")
  func places() {
    let bytes = Array("\0one\0two\0two\0".utf8)
    #expect(bytes.firstIndex(of: Array("\0two\0".utf8)) == 4)
    #expect(bytes.firstIndex(of: Array("\0one".utf8)) == 0)
    #expect(bytes.firstIndex(of: bytes) == 0)
    #expect(bytes.firstIndex(of: [0x6f, 0]) == 7)
    #expect(bytes.firstIndex(of: bytes + [0]) == nil)
    #expect(bytes.firstIndex(of: Array("three".utf8)) == nil)
    #expect([UInt8]().firstIndex(of: [1]) == nil)
  }

  @Test("as much as a kernel is searched at once, not for a minute", .timeLimit(.minutes(1)))
  func large() {
    // Of what is compared at each byte, most would fit.
    let bytes = [UInt8](repeating: 0, count: 64 << 20) + Array("virtio".utf8)
    #expect(bytes.firstIndex(of: [0] + Array("virtio".utf8)) == 64 << 20 - 1)
    #expect(bytes.firstIndex(of: [0] + Array("virtio-mmio".utf8) + [0]) == nil)
  }
}
