import SystemPackage

/// A file of the host's that may be packed, as kernels' modules and configurations are.
public enum PackedFile {
  private struct Collector: DecompressionSink {
    let name: String
    let limit: Int
    var bytes: [UInt8] = []

    mutating func write(_ more: UnsafeRawBufferPointer) throws(BootFailure) {
      guard more.count <= limit - bytes.count else {
        throw BootFailure(name, .malformed(part: "the file", problem: "unpacks to more than \(limit) bytes"))
      }
      bytes.append(contentsOf: more)
    }
  }

  /// All of it, unpacked by what its first bytes say.
  /// - Parameter limit: bytes that it may have.
  /// - Throws: `BootFailure` when it can't be read, is corrupt, or has more.
  public static func contents(_ image: BootImage, limit: Int) throws(BootFailure) -> [UInt8] {
    var collector = Collector(name: image.name, limit: limit)
    if let format = CompressionFormat(try image.prefix(8)) {
      try PackedStream(image: image, format: format, offset: 0, length: image.size).unpack(into: &collector)
      return collector.bytes
    }
    guard image.size <= UInt64(limit) else {
      throw BootFailure(image.name, .malformed(part: "the file", problem: "has more than \(limit) bytes"))
    }
    return try image.read("the file", at: 0, count: Int(image.size)).bytes
  }
}
