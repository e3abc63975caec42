/// An input taken apart: numbers and bytes from its beginning on, zeros behind its end.
struct FuzzInput {
  private var rest: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

  var isEmpty: Bool { rest.isEmpty }

  mutating func byte() -> UInt8 {
    guard let first = rest.first else { return 0 }
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst())
    return first
  }

  mutating func number<Value: FixedWidthInteger & UnsignedInteger>(_ type: Value.Type = Value.self) -> Value {
    var value: Value = 0
    for index in 0..<MemoryLayout<Value>.size { value |= Value(byte()) << Value(8 * index) }
    return value
  }

  /// One of so many.
  mutating func below(_ limit: Int) -> Int { limit <= 1 ? 0 : Int(number(UInt16.self)) % limit }

  mutating func bytes(_ count: Int) -> UnsafeRawBufferPointer {
    defer { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) }
    return UnsafeRawBufferPointer(rebasing: rest.prefix(count))
  }

  mutating func remainder() -> UnsafeRawBufferPointer { bytes(rest.count) }
}
