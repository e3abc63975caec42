import TrivisorCCompression

/// LZ4's legacy frame, which is what kernels have: a magic number, then blocks of a 32-bit packed size and data, each
/// of which unpacks by itself to 8 MiB, the last one to less (LZ4's lz4_Frame_format.md, "Legacy frame").
struct LZ4Decoder {
  static let magic: [UInt8] = [0x02, 0x21, 0x4c, 0x18]
  private static let blockSize = 8 << 20

  let stream: PackedStream

  func unpack(into sink: inout some DecompressionSink) throws(BootFailure) {
    var packed = Scratch()
    var unpacked = Scratch()
    // Linux puts the unpacked size behind the last block, where a block's size would be.
    let end = stream.length - min(stream.length, 4)
    var position = UInt64(Self.magic.count)
    while position < end {
      let head = try stream.image.read("a packed block's size", at: stream.offset &+ position, count: 4)
      let size: UInt32 = try head.read(at: 0)
      position += 4
      if head.holds(Self.magic, at: 0) { continue }
      guard size > 0, size <= LZ4_compressBound(Int32(Self.blockSize)) else {
        throw stream.corrupt("has a block of \(size) bytes, which no packer makes")
      }
      guard position <= end, UInt64(size) <= end - position else { throw stream.corrupt("is cut off") }
      let source = packed.buffer(Int(size))
      try stream.image.fill(source, from: stream.offset &+ position)
      position += UInt64(size)
      let block = unpacked.buffer(Self.blockSize)
      let count = try decode(source, into: block)
      try sink.write(UnsafeRawBufferPointer(rebasing: block[..<count]))
    }
  }

  private func decode(
    _ source: UnsafeMutableRawBufferPointer, into destination: UnsafeMutableRawBufferPointer
  ) throws(BootFailure) -> Int {
    let count = LZ4_decompress_safe(
      source.baseAddress?.assumingMemoryBound(to: CChar.self),
      destination.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(clamping: source.count),
      Int32(clamping: destination.count))
    guard count >= 0 else { throw stream.corrupt("is not valid lz4 data") }
    return Int(count)
  }

  /// Memory that is made when first needed and grows.
  private struct Scratch: ~Copyable {
    private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    mutating func buffer(_ count: Int) -> UnsafeMutableRawBufferPointer {
      if memory.count < count {
        memory.deallocate()
        memory = .allocate(byteCount: count, alignment: 16)
      }
      return UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
    }

    deinit { memory.deallocate() }
  }
}
