/// A structure for the guest while it is put together: little-endian, grows as far as it is written.
struct GuestRecord {
  private(set) var bytes: [UInt8] = []

  /// Adds an integer at the end.
  mutating func append<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    put(value, at: bytes.count)
  }

  /// Adds a C string: the text's UTF-8 and a zero byte.
  mutating func append(text: String) {
    bytes.append(contentsOf: text.utf8)
    bytes.append(0)
  }

  /// Stores an integer at an offset, which is not below zero.
  mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
    grow(to: offset + MemoryLayout<Value>.size)
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self) }
  }

  /// Stores bytes at an offset, which is not below zero.
  mutating func put(_ contents: [UInt8], at offset: Int) {
    grow(to: offset + contents.count)
    bytes.replaceSubrange(offset..<(offset + contents.count), with: contents)
  }

  private mutating func grow(to size: Int) {
    if bytes.count < size { bytes += [UInt8](repeating: 0, count: size - bytes.count) }
  }
}
