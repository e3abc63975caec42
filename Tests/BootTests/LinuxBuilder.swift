import TrivisorCCompression
import Testing
import TrivisorVMM

@testable import TrivisorBoot

/// Makes packed kernels like Linux's build does, small.
enum LinuxBuilder {
  static let kernelBase: UInt64 = 0x100_0000
  static let pvhEntry: UInt64 = 0x100_0040

  /// A note as in `.note.Xen`.
  static func note(_ type: UInt32, _ description: [UInt8], owner: String = "Xen") -> [UInt8] {
    var note = ImageBuilder()
    note.put(UInt32(owner.utf8.count + 1), at: 0)
    note.put(UInt32(description.count), at: 4)
    note.put(type, at: 8)
    note.put(Array(owner.utf8) + [0], at: 12)
    note.grow(to: (note.bytes.count + 3) & ~3)
    note.put(description, at: note.bytes.count)
    note.grow(to: (note.bytes.count + 3) & ~3)
    return note.bytes
  }

  static func pvhNotes(entry: UInt64 = pvhEntry, os: String = "linux") -> [UInt8] {
    note(6, Array(os.utf8) + [0]) + note(18, withUnsafeBytes(of: entry.littleEndian) { Array($0) })
  }

  /// Contents that no packer makes nothing of, but that repeat enough to be packed.
  static func contents(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = Generator(seed: seed)
    let words = (0..<64).map { _ in generator.next() }
    var bytes: [UInt8] = []
    while bytes.count < count {
      withUnsafeBytes(of: words[Int(generator.next() % 64)]) { bytes.append(contentsOf: $0) }
    }
    return Array(bytes.prefix(count))
  }

  /// A kernel as ELF, as stripped for packing: two segments, notes at the end of the first, relocations behind.
  static func vmlinux(notes: [UInt8] = pvhNotes(), textSize: Int = 200_000) -> [UInt8] {
    let text = contents(textSize, seed: 1) + notes
    var image = ImageBuilder(
      bytes: ImageBuilder.elf64(
        entry: kernelBase,
        [
          .init(physical: kernelBase, virtual: 0xffff_ffff_8100_0000, contents: text, memorySize: UInt64(text.count)),
          .init(physical: 0x120_0000, virtual: 0, contents: contents(70_000, seed: 2), memorySize: 100_000),
          .init(physical: kernelBase + UInt64(textSize), contents: [], type: 4),
        ]))
    let noteHeader = 64 + 2 * 56
    image.put(UInt64(0x200 + textSize), at: noteHeader + 8)
    image.put(UInt64(notes.count), at: noteHeader + 32)
    image.put(UInt64(4), at: noteHeader + 48)
    image.put(contents(5000, seed: 3), at: image.bytes.count)
    return image.bytes
  }

  struct Header {
    var version: UInt16 = 0x20f
    var extendedFlags: UInt16 = 0x7f
    var relocatable: UInt8 = 1
    var alignment: UInt32 = 0x20_0000
    var preferred: UInt64 = 0x100_0000
    var initialSize: UInt32 = 0x80_0000
    var ramdiskMaximum: UInt32 = 0x7fff_ffff
    var commandLineSize: UInt32 = 2047
  }

  /// A bzImage around a payload that is packed already.
  static func bzImage(_ payload: [UInt8], _ header: Header = Header()) -> [UInt8] {
    var image = ImageBuilder()
    let kernelOffset = 1024
    let payloadOffset = 0x280
    image.put(UInt8(1), at: 0x1f1)
    image.put(UInt32((payloadOffset + payload.count + 15) / 16), at: 0x1f4)
    image.put([0x55, 0xaa, 0xeb, 0x6a] + Array("HdrS".utf8), at: 0x1fe)
    image.put(header.version, at: 0x206)
    image.put(UInt8(1), at: 0x211)
    image.put(header.ramdiskMaximum, at: 0x22c)
    image.put(header.alignment, at: 0x230)
    image.put(header.relocatable, at: 0x234)
    image.put(UInt8(21), at: 0x235)
    image.put(header.extendedFlags, at: 0x236)
    image.put(header.commandLineSize, at: 0x238)
    image.put(UInt32(payloadOffset), at: 0x248)
    image.put(UInt32(payload.count), at: 0x24c)
    image.put(header.preferred, at: 0x258)
    image.put(header.initialSize, at: 0x260)
    image.put([0xf4], at: kernelOffset + 0x200)
    image.put(payload, at: kernelOffset + payloadOffset)
    image.grow(to: kernelOffset + (payloadOffset + payload.count + 15) / 16 * 16)
    return image.bytes
  }

  /// Packs as Linux's build does: the format's own tool, and behind it the size unless the format ends with it.
  static func pack(_ bytes: [UInt8], _ format: CompressionFormat) throws -> [UInt8] {
    let packed = try bytes.withUnsafeBytes { source in
      try [UInt8](unsafeUninitializedCapacity: bytes.count * 2 + 65536) { buffer, count in
        count = try pack(source, format, into: UnsafeMutableRawBufferPointer(buffer))
      }
    }
    return format == .gzip ? packed : packed + withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { Array($0) }
  }

  private static func pack(
    _ source: UnsafeRawBufferPointer, _ format: CompressionFormat, into output: UnsafeMutableRawBufferPointer
  ) throws -> Int {
    let input = UnsafeMutableRawBufferPointer(mutating: source)
    let inputBytes = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let outputBytes = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    switch format {
    case .gzip:
      var stream = z_stream()
      let size = Int32(MemoryLayout<z_stream>.size)
      try #require(deflateInit2_(&stream, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, size) == Z_OK)
      (stream.next_in, stream.avail_in) = (inputBytes, UInt32(input.count))
      (stream.next_out, stream.avail_out) = (outputBytes, UInt32(output.count))
      try #require(deflate(&stream, Z_FINISH) == Z_STREAM_END)
      deflateEnd(&stream)
      return output.count - Int(stream.avail_out)
    case .bzip2:
      var count = UInt32(output.count)
      try #require(
        BZ2_bzBuffToBuffCompress(
          output.baseAddress?.assumingMemoryBound(to: CChar.self), &count,
          input.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(input.count), 9, 0, 0) == BZ_OK)
      return Int(count)
    case .xz:
      // As Linux packs for x86: the branch converter before LZMA2, CRC32.
      var options = lzma_options_lzma()
      try #require(lzma_lzma_preset(&options, 6) == 0)
      var count = 0
      let result = withUnsafeMutablePointer(to: &options) { options in
        var filters = [
          lzma_filter(id: 4, options: nil), lzma_filter(id: 0x21, options: options),
          lzma_filter(id: UInt64.max, options: nil),
        ]
        return lzma_stream_buffer_encode(
          &filters, LZMA_CHECK_CRC32, nil, inputBytes, input.count, outputBytes, &count, output.count)
      }
      try #require(result == LZMA_OK)
      return count
    case .lzma:
      var options = lzma_options_lzma()
      try #require(lzma_lzma_preset(&options, 6) == 0)
      var stream = lzma_stream()
      try #require(lzma_alone_encoder(&stream, &options) == LZMA_OK)
      (stream.next_in, stream.avail_in) = (UnsafePointer(inputBytes), input.count)
      (stream.next_out, stream.avail_out) = (outputBytes, output.count)
      try #require(lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END)
      lzma_end(&stream)
      return output.count - stream.avail_out
    case .zstd:
      let count = ZSTD_compress(output.baseAddress, output.count, input.baseAddress, input.count, 19)
      try #require(ZSTD_isError(count) == 0)
      return count
    case .lz4:
      output.copyBytes(from: LZ4Decoder.magic)
      var position = LZ4Decoder.magic.count
      for start in stride(from: 0, to: input.count, by: 8 << 20) {
        let size = LZ4_compress_default(
          UnsafeRawBufferPointer(rebasing: input[start...]).assumingMemoryBound(to: CChar.self).baseAddress,
          UnsafeMutableRawBufferPointer(rebasing: output[(position + 4)...]).assumingMemoryBound(to: CChar.self)
            .baseAddress,
          Int32(min(8 << 20, input.count - start)), Int32(output.count - position - 4))
        try #require(size > 0)
        output.storeBytes(of: UInt32(size).littleEndian, toByteOffset: position, as: UInt32.self)
        position += 4 + Int(size)
      }
      return position
    }
  }
}
