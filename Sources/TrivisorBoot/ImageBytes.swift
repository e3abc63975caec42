import TrivisorVMM

/// A copy of one structure of an image, read little-endian and within its bounds.
///
/// Every offset is checked, because most come from the image itself; arithmetic on them can't overflow.
struct ImageBytes {
  let image: String
  let imageSize: UInt64
  /// What the structure is, for messages.
  let part: String
  /// Where it begins in the image.
  let offset: UInt64
  let bytes: [UInt8]

  var count: Int { bytes.count }

  /// An integer at `position` of the structure.
  /// - Throws: `BootFailure` unless all of its bytes are in the structure.
  func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type = Value.self, at position: Int
  ) throws(BootFailure) -> Value {
    guard let value = value(type, at: position) else {
      throw BootFailure(
        image,
        .truncated(
          part: part, offset: offset &+ UInt64(clamping: position), size: UInt64(MemoryLayout<Value>.size),
          imageSize: offset &+ UInt64(bytes.count)))
    }
    return value
  }

  /// The same, or `nil` where the structure is too short.
  func value<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type = Value.self, at position: Int) -> Value? {
    guard position >= 0, position <= bytes.count, MemoryLayout<Value>.size <= bytes.count - position else { return nil }
    return bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: Value.self)) }
  }

  /// Whether exactly these bytes stand at `position`.
  func holds(_ expected: [UInt8], at position: Int) -> Bool {
    guard position >= 0, position <= bytes.count, expected.count <= bytes.count - position else { return false }
    return bytes[position..<(position + expected.count)].elementsEqual(expected)
  }

  /// The `count` bytes from `position`, or `nil` where the structure is too short.
  func slice(at position: Int, count: Int) -> ArraySlice<UInt8>? {
    guard position >= 0, count >= 0, position <= bytes.count, count <= bytes.count - position else { return nil }
    return bytes[position..<(position + count)]
  }

  /// A failure about this image.
  func failure(_ reason: BootFailure.Reason) -> BootFailure { BootFailure(image, reason) }

  /// A failure about this structure.
  func malformed(_ problem: String) -> BootFailure { failure(.malformed(part: part, problem: problem)) }
}
