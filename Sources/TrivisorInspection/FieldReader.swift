/// Reads little-endian fields of a file within its bounds.
struct FieldReader {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The integer at `offset`, if it is in the file.
  func read<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, _ offset: Int) -> Value? {
    let size = MemoryLayout<Value>.size
    guard offset >= 0, offset <= bytes.count, size <= bytes.count - offset else { return nil }
    return bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
  }

  /// As much of these `size` bytes from `offset` as is in the file; `nil` if nothing is.
  func range(_ offset: UInt64, _ size: UInt64) -> Range<Int>? {
    guard offset < bytes.count else { return nil }
    let start = Int(offset)
    return start..<(start + Int(min(size, UInt64(bytes.count - start))))
  }

  /// The string that begins `offset` bytes into `table` and ends with a zero or the table.
  func string(_ table: Range<Int>, _ offset: Int) -> String {
    guard offset >= 0, offset < table.count else { return "" }
    let text = bytes[(table.lowerBound + offset)..<table.upperBound].prefix(512).prefix { $0 != 0 }
    return String(decoding: text, as: UTF8.self)
  }
}
