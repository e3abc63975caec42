/// What Linux kernels are packed with.
enum CompressionFormat: String, CaseIterable {
  case gzip, bzip2, xz, lzma, lz4, zstd

  /// Recognises a stream by its first bytes; `nil` for others (LZO, or nothing packed).
  init?(_ head: ImageBytes) {
    let signatures: [(CompressionFormat, [UInt8])] = [
      (.gzip, [0x1f, 0x8b]),
      (.bzip2, [0x42, 0x5a, 0x68]),
      (.xz, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]),
      (.lzma, [0x5d, 0x00, 0x00]),
      (.lz4, LZ4Decoder.magic),
      (.zstd, [0x28, 0xb5, 0x2f, 0xfd]),
    ]
    guard let match = signatures.first(where: { head.holds($0.1, at: 0) }) else { return nil }
    self = match.0
  }
}
