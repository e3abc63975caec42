// The libraries behind one interface. Each object owns one decoder's state, at an address that stays, because the
// libraries keep pointers into it; making one can fail for want of memory.

import TrivisorCCompression

/// zlib, for gzip streams.
final class GzipDecoder: StreamDecoder {
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
  private static let gzipWithLargestWindow: Int32 = 16 + 15

  init?() {
    stream.initialize(to: z_stream())
    let size = Int32(MemoryLayout<z_stream>.size)
    guard inflateInit2_(stream, Self.gzipWithLargestWindow, ZLIB_VERSION, size) == Z_OK else { return nil }
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
  }

  func decode(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecoderStep? {
    stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_in = UInt32(clamping: input.count)
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = UInt32(clamping: output.count)
    let (available, room) = (stream.pointee.avail_in, stream.pointee.avail_out)
    let result = inflate(stream, Z_NO_FLUSH)
    guard result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR else { return nil }
    return DecoderStep(
      consumed: Int(available - stream.pointee.avail_in), produced: Int(room - stream.pointee.avail_out),
      isAtEnd: result == Z_STREAM_END)
  }
}

/// libbz2.
final class Bzip2Decoder: StreamDecoder {
  private let stream = UnsafeMutablePointer<bz_stream>.allocate(capacity: 1)

  init?() {
    stream.initialize(to: bz_stream())
    guard BZ2_bzDecompressInit(stream, 0, 0) == BZ_OK else { return nil }
  }

  deinit {
    BZ2_bzDecompressEnd(stream)
    stream.deallocate()
  }

  func decode(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecoderStep? {
    stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: CChar.self)
    stream.pointee.avail_in = UInt32(clamping: input.count)
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: CChar.self)
    stream.pointee.avail_out = UInt32(clamping: output.count)
    let (available, room) = (stream.pointee.avail_in, stream.pointee.avail_out)
    let result = BZ2_bzDecompress(stream)
    guard result == BZ_OK || result == BZ_STREAM_END else { return nil }
    return DecoderStep(
      consumed: Int(available - stream.pointee.avail_in), produced: Int(room - stream.pointee.avail_out),
      isAtEnd: result == BZ_STREAM_END)
  }
}

/// liblzma, for .xz (with its filters, among them x86's branch converter) and the older .lzma.
final class XZDecoder: StreamDecoder {
  private let stream = UnsafeMutablePointer<lzma_stream>.allocate(capacity: 1)

  init?(alone: Bool) {
    stream.initialize(to: lzma_stream())
    let result =
      alone
      ? lzma_alone_decoder(stream, PackedStream.memoryLimit) : lzma_stream_decoder(stream, PackedStream.memoryLimit, 0)
    guard result == LZMA_OK else { return nil }
  }

  deinit {
    lzma_end(stream)
    stream.deallocate()
  }

  func decode(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecoderStep? {
    stream.pointee.next_in = UnsafePointer(input.baseAddress?.assumingMemoryBound(to: UInt8.self))
    stream.pointee.avail_in = input.count
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = output.count
    let result = lzma_code(stream, LZMA_RUN)
    guard result == LZMA_OK || result == LZMA_STREAM_END || result == LZMA_BUF_ERROR else { return nil }
    return DecoderStep(
      consumed: input.count - stream.pointee.avail_in, produced: output.count - stream.pointee.avail_out,
      isAtEnd: result == LZMA_STREAM_END)
  }
}

/// libzstd.
final class ZstandardDecoder: StreamDecoder {
  private let stream: OpaquePointer

  init?() {
    guard let stream = ZSTD_createDStream() else { return nil }
    self.stream = stream
  }

  deinit { ZSTD_freeDStream(stream) }

  func decode(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecoderStep? {
    var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    var destination = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
    let result = ZSTD_decompressStream(stream, &destination, &source)
    guard ZSTD_isError(result) == 0 else { return nil }
    return DecoderStep(consumed: source.pos, produced: destination.pos, isAtEnd: result == 0)
  }
}
