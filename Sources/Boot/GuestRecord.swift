/// A structure for the guest while it is put together: little-endian, grows as far as it is written.
struct GuestRecord {
  private(set) var bytes: [UInt8] = []

  /// Adds an integer at the end.
  mutating func append<Value: FixedWidthInteger>(_ value: Value) {
    put(value, at: bytes.count)
  }

  /// Adds a C string: the text's UTF-8 and a zero byte.
  mutating func append(text: String) {
    bytes.append(contentsOf: text.utf8)
    bytes.append(0)
  }

  /// Stores an integer at an offset, which is not below zero.
  mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    let size = MemoryLayout<Value>.size
    if bytes.count < offset + size { bytes.append(contentsOf: repeatElement(0, count: offset + size - bytes.count)) }
    withUnsafeBytes(of: value.littleEndian) { source in
      for (index, byte) in source.enumerated() { bytes[offset + index] = byte }
    }
  }
}
