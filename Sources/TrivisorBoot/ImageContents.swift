import TrivisorVMM

/// All bytes of an image as something to look at, unpacked if it is a packed Linux kernel.
public struct ImageContents: Sendable {
  /// The file's own bytes, or those of the kernel that was packed in it.
  public let bytes: [UInt8]
  /// How the kernel was packed, if it was.
  public let packing: String?

  /// More than any kernel or program that somebody would look at.
  private static let limit: UInt64 = 2 << 30

  private struct Collector: DecompressionSink {
    let image: String
    let size: Int
    var bytes: [UInt8] = []

    mutating func write(_ more: UnsafeRawBufferPointer) throws(BootFailure) {
      guard more.count <= size - bytes.count else {
        throw BootFailure(
          image,
          .malformed(part: "the packed kernel", problem: "unpacks to more than the \(size) bytes that it announces"))
      }
      bytes.append(contentsOf: more)
    }
  }

  /// Reads an image.
  /// - Throws: `BootFailure` when it can't be read, is too large, or is packed and corrupt.
  public init(_ image: BootImage) throws(BootFailure) {
    guard image.size <= Self.limit else {
      throw BootFailure(image.name, .malformed(part: "the image", problem: "is larger than \(Self.limit >> 30) GiB"))
    }
    if let stream = try Self.packedKernel(of: image) {
      let size: UInt32 = try image.read("the unpacked size", at: stream.offset + stream.length - 4, count: 4).read(
        at: 0)
      guard size <= Self.limit else {
        throw BootFailure(
          image.name, .malformed(part: "the packed kernel", problem: "announces \(size) bytes, which no kernel has"))
      }
      var collector = Collector(image: image.name, size: Int(size))
      collector.bytes.reserveCapacity(Int(min(size, 256 << 20)))
      try stream.unpack(into: &collector)
      bytes = collector.bytes
      packing = stream.format.rawValue
    } else {
      bytes = try image.read("the image", at: 0, count: Int(image.size)).bytes
      packing = nil
    }
  }

  private static func packedKernel(of image: BootImage) throws(BootFailure) -> PackedStream? {
    guard try image.prefix(0x210).holds(Array("HdrS".utf8), at: 0x202) else { return nil }
    let header = try LinuxSetupHeader(image)
    guard let payload = header.payload, payload.length > 4 else { return nil }
    let head = try image.read("the packed kernel", at: payload.offset, count: Int(min(payload.length, 8)))
    guard let format = CompressionFormat(head) else { return nil }
    return PackedStream(image: image, format: format, offset: payload.offset, length: payload.length)
  }
}
