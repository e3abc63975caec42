import Glibc
import SystemPackage
import TrivisorCCompression

/// Bytes of a file, unpacked if it is packed by gzip, xz or zstd.
package final class ByteReader {
  private static let chunk = 256 << 10
  /// Windows of packers' highest levels.
  private static let memoryLimit: UInt64 = 256 << 20

  private enum Decoder {
    case none
    case gzip(UnsafeMutablePointer<z_stream>)
    case xz(UnsafeMutablePointer<lzma_stream>)
    case zstd(OpaquePointer)
  }

  private let descriptor: Int32
  private let name: String
  private var decoder = Decoder.none
  private let input: UnsafeMutableRawBufferPointer
  private var available = 0..<0
  private var inputIsOver = false
  private var isOver = false
  /// Of the file as it is.
  private var digest: SHA256?

  /// - Parameters:
  ///   - descriptor: at its beginning; closed with this.
  ///   - hashes: whether the file's digest is wanted.
  package init(_ descriptor: Int32, name: String, hashes: Bool) throws(ImageArchiveFailure) {
    self.descriptor = descriptor
    self.name = name
    if hashes { digest = SHA256() }
    input = .allocate(byteCount: Self.chunk, alignment: 16)
    try refill()
    let head = input[available]
    if head.starts(with: [0x1f, 0x8b]) {
      decoder = try makeGzip()
    } else if head.starts(with: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) {
      decoder = try makeXZ()
    } else if head.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) {
      guard let context = ZSTD_createDCtx() else { throw shortage }
      decoder = .zstd(context)
    }
  }

  deinit {
    switch decoder {
    case .none: break
    case .gzip(let stream):
      inflateEnd(stream)
      stream.deallocate()
    case .xz(let stream):
      lzma_end(stream)
      stream.deallocate()
    case .zstd(let context): ZSTD_freeDCtx(context)
    }
    input.deallocate()
    close(descriptor)
  }

  private var shortage: ImageArchiveFailure {
    ImageArchiveFailure("\(name) can't be unpacked: there is not enough memory", isHosts: true)
  }

  private func makeGzip() throws(ImageArchiveFailure) -> Decoder {
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    let gzipWithLargestWindow: Int32 = 16 + 15
    guard inflateInit2_(stream, gzipWithLargestWindow, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      stream.deallocate()
      throw shortage
    }
    return .gzip(stream)
  }

  private func makeXZ() throws(ImageArchiveFailure) -> Decoder {
    let stream = UnsafeMutablePointer<lzma_stream>.allocate(capacity: 1)
    stream.initialize(to: lzma_stream())
    let concatenated: UInt32 = 0x08  // LZMA_CONCATENATED
    guard lzma_stream_decoder(stream, Self.memoryLimit, concatenated) == LZMA_OK else {
      stream.deallocate()
      throw shortage
    }
    return .xz(stream)
  }

  private func refill() throws(ImageArchiveFailure) {
    guard available.isEmpty, !inputIsOver else { return }
    var count = 0
    repeat { count = Glibc.read(descriptor, input.baseAddress, input.count) } while count < 0 && errno == EINTR
    guard count >= 0 else {
      throw ImageArchiveFailure("\(name) can't be read: \(Errno(rawValue: errno))", isHosts: true)
    }
    available = 0..<count
    inputIsOver = count == 0
    digest?.update(UnsafeRawBufferPointer(rebasing: input[..<count]))
  }

  /// Fills all of the room, unless the end comes before.
  /// - Returns: how many bytes there are.
  func read(into room: UnsafeMutableRawBufferPointer) throws(ImageArchiveFailure) -> Int {
    var stored = 0
    while stored < room.count, !isOver {
      try refill()
      if inputIsOver, available.isEmpty, case .none = decoder { break }
      stored += try step(UnsafeMutableRawBufferPointer(rebasing: room[stored...]))
    }
    return stored
  }

  private func step(_ room: UnsafeMutableRawBufferPointer) throws(ImageArchiveFailure) -> Int {
    let source = UnsafeMutableRawBufferPointer(rebasing: input[available])
    let corrupt = ImageArchiveFailure("\(name) is damaged: what is packed in it can't be unpacked")
    var (taken, made) = (0, 0)
    switch decoder {
    case .none:
      made = min(source.count, room.count)
      room.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<made]))
      taken = made
    case .gzip(let stream):
      stream.pointee.next_in = source.baseAddress?.assumingMemoryBound(to: UInt8.self)
      stream.pointee.avail_in = UInt32(source.count)
      stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
      stream.pointee.avail_out = UInt32(clamping: room.count)
      let size = stream.pointee.avail_out
      let result = inflate(stream, Z_NO_FLUSH)
      (taken, made) = (source.count - Int(stream.pointee.avail_in), Int(size - stream.pointee.avail_out))
      guard result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR else { throw corrupt }
      if result == Z_STREAM_END {
        available = (available.lowerBound + taken)..<available.upperBound
        taken = 0
        try refill()
        // Another member may follow; zeros that pad the file do not.
        if let next = input[available].first, next == 0x1f { inflateReset(stream) } else { isOver = true }
      }
    case .xz(let stream):
      stream.pointee.next_in = UnsafePointer(source.baseAddress?.assumingMemoryBound(to: UInt8.self))
      stream.pointee.avail_in = source.count
      stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
      stream.pointee.avail_out = room.count
      let result = lzma_code(stream, inputIsOver ? LZMA_FINISH : LZMA_RUN)
      (taken, made) = (source.count - stream.pointee.avail_in, room.count - stream.pointee.avail_out)
      guard result == LZMA_OK || result == LZMA_STREAM_END || result == LZMA_BUF_ERROR else { throw corrupt }
      if result == LZMA_STREAM_END { isOver = true }
    case .zstd(let context):
      var from = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
      var to = ZSTD_outBuffer(dst: room.baseAddress, size: room.count, pos: 0)
      let result = ZSTD_decompressStream(context, &to, &from)
      guard ZSTD_isError(result) == 0 else { throw corrupt }
      (taken, made) = (from.pos, to.pos)
      if inputIsOver, made == 0 {
        guard result == 0 || source.isEmpty else { throw corrupt }
        isOver = true
      }
    }
    available = (available.lowerBound + taken)..<available.upperBound
    if taken == 0, made == 0, !isOver, inputIsOver { throw ImageArchiveFailure("\(name) is cut off") }
    return made
  }

  /// The whole file's digest: reads what is left of it.
  func finishDigest() throws(ImageArchiveFailure) -> String {
    while !inputIsOver {
      available = 0..<0
      try refill()
    }
    return digest?.finish() ?? ""
  }
}
