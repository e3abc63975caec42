/// A kernel of some pages: a domain to make hypercalls for, or one with some code of a test's.
public enum BlankKernel {
  /// Where it is mapped: pages from here on are its own, writable.
  public static let base: UInt64 = 0x40_0000
  /// How many they are.
  public static let pageCount: UInt64 = 64

  /// - Parameter code: what it begins with, at `base`; none where none of its instructions is ever executed.
  /// - Returns: an ELF image with notes.
  public static func image(is64Bit: Bool, code: [UInt8] = []) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 0x200)
    func put(_ value: UInt64, _ size: Int, at offset: Int) {
      for byte in 0..<size { bytes[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    func note(_ type: UInt64, _ value: [UInt8], at offset: Int) -> Int {
      put(4, 4, at: offset)
      put(UInt64(value.count), 4, at: offset + 4)
      put(type, 4, at: offset + 8)
      for (position, byte) in (Array("Xen\0".utf8) + value).enumerated() { bytes[offset + 12 + position] = byte }
      return offset + 16 + (value.count + 3) / 4 * 4
    }
    for (position, byte) in [0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1, 1].enumerated() {
      bytes[position] = UInt8(byte)
    }
    put(2, 2, at: 16)
    put(is64Bit ? 62 : 3, 2, at: 18)
    put(1, 4, at: 20)
    let (header, entrySize, word) = is64Bit ? (64, 56, 8) : (52, 32, 4)
    put(base, word, at: 24)
    put(UInt64(header), word, at: is64Bit ? 32 : 28)
    put(UInt64(header), 2, at: is64Bit ? 52 : 40)
    put(UInt64(entrySize), 2, at: is64Bit ? 54 : 42)
    put(2, 2, at: is64Bit ? 56 : 44)
    var end = note(8, Array("generic\0".utf8), at: 0x100)
    end = note(5, Array("xen-3.0\0".utf8), at: end)
    end = note(3, withUnsafeBytes(of: base) { Array($0) }, at: end)
    let segments: [(type: UInt64, offset: UInt64, fileSize: UInt64, memorySize: UInt64, virtual: UInt64)] = [
      (1, UInt64(bytes.count), UInt64(code.count), pageCount << 12, base),
      (4, 0x100, UInt64(end - 0x100), UInt64(end - 0x100), 0),
    ]
    for (index, segment) in segments.enumerated() {
      let place = header + index * entrySize
      put(segment.type, 4, at: place)
      if is64Bit {
        put(segment.offset, 8, at: place + 8)
        put(segment.virtual, 8, at: place + 16)
        put(segment.fileSize, 8, at: place + 32)
        put(segment.memorySize, 8, at: place + 40)
      } else {
        put(segment.offset, 4, at: place + 4)
        put(segment.virtual, 4, at: place + 8)
        put(segment.fileSize, 4, at: place + 16)
        put(segment.memorySize, 4, at: place + 20)
      }
    }
    return bytes + code
  }
}
