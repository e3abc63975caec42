// How a configuration crosses to a worker, and a result back: both are the same program, so there are no versions. A worker
// may have been taken over by its guest, so what comes from it is checked like anybody's.

import TrivisorVMM

/// Bytes that are no value of the kind that is wanted.
struct WireFault: Error {}

/// Something that crosses between a machine's owner and its worker.
protocol WireValue {
  init(from reader: inout WireReader) throws(WireFault)
  func write(to writer: inout WireWriter)
}

/// Gathers values.
struct WireWriter {
  private(set) var bytes: [UInt8] = []
  /// Of the values' descriptors, which cross beside the bytes.
  private(set) var descriptors: [Int32] = []

  mutating func write(_ value: some WireValue) { value.write(to: &self) }

  mutating func write(word: UInt64) {
    for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
  }

  mutating func write(raw: [UInt8]) {
    write(word: UInt64(raw.count))
    bytes += raw
  }

  mutating func write(descriptor: FileDescriptor) {
    write(word: UInt64(descriptors.count))
    descriptors.append(descriptor.rawValue)
  }
}

/// Takes values apart again.
struct WireReader {
  private var rest: ArraySlice<UInt8>
  private let descriptors: [Int32]

  init(_ bytes: [UInt8], descriptors: [Int32] = []) {
    rest = bytes[...]
    self.descriptors = descriptors
  }

  mutating func read<Value: WireValue>(_ type: Value.Type = Value.self) throws(WireFault) -> Value {
    try Value(from: &self)
  }

  mutating func word() throws(WireFault) -> UInt64 {
    guard rest.count >= 8 else { throw WireFault() }
    var word: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 8) { word |= UInt64(rest.removeFirst()) << shift }
    return word
  }

  mutating func raw() throws(WireFault) -> [UInt8] {
    let count = try count()
    defer { rest.removeFirst(count) }
    return Array(rest.prefix(count))
  }

  /// Of elements that take a byte each at least: no more than there are bytes.
  mutating func count() throws(WireFault) -> Int {
    guard let count = Int(exactly: try word()), count <= rest.count else { throw WireFault() }
    return count
  }

  mutating func descriptor() throws(WireFault) -> FileDescriptor {
    guard let index = Int(exactly: try word()), descriptors.indices.contains(index) else { throw WireFault() }
    return FileDescriptor(rawValue: descriptors[index])
  }
}

extension FixedWidthInteger where Self: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    guard let value = Self(exactly: Int64(bitPattern: try reader.word())) else { throw WireFault() }
    self = value
  }

  func write(to writer: inout WireWriter) { writer.write(word: UInt64(bitPattern: Int64(truncatingIfNeeded: self))) }
}

extension Int: WireValue {}
extension Int64: WireValue {}
extension UInt8: WireValue {}
extension UInt16: WireValue {}

extension UInt64: WireValue {
  init(from reader: inout WireReader) throws(WireFault) { self = try reader.word() }
  func write(to writer: inout WireWriter) { writer.write(word: self) }
}

extension Bool: WireValue {
  init(from reader: inout WireReader) throws(WireFault) { self = try reader.word() != 0 }
  func write(to writer: inout WireWriter) { writer.write(word: self ? 1 : 0) }
}

extension String: WireValue {
  init(from reader: inout WireReader) throws(WireFault) { self.init(decoding: try reader.raw(), as: UTF8.self) }
  func write(to writer: inout WireWriter) { writer.write(raw: Array(utf8)) }
}

extension FilePath: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    let bytes = try reader.raw().filter { $0 != 0 } + [0]
    self = bytes.withUnsafeBytes { bytes in
      bytes.withMemoryRebound(to: CChar.self) { characters in
        characters.baseAddress.map { FilePath(platformString: $0) } ?? ""
      }
    }
  }

  func write(to writer: inout WireWriter) {
    // A path is bytes, of any encoding or none.
    let bytes = withPlatformString { pointer -> [UInt8] in
      var bytes: [UInt8] = []
      var place = pointer
      while place.pointee != 0 {
        bytes.append(UInt8(bitPattern: place.pointee))
        place += 1
      }
      return bytes
    }
    writer.write(raw: bytes)
  }
}

extension Optional: WireValue where Wrapped: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self = try reader.read(Bool.self) ? try reader.read(Wrapped.self) : nil
  }
  func write(to writer: inout WireWriter) {
    writer.write(self != nil)
    if let self { writer.write(self) }
  }
}

extension Array: WireValue where Element: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self = []
    for _ in 0..<(try reader.count()) { append(try reader.read()) }
  }

  func write(to writer: inout WireWriter) {
    writer.write(count)
    for element in self { writer.write(element) }
  }
}

extension Dictionary: WireValue where Key == String, Value: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self = [:]
    for _ in 0..<(try reader.count()) {
      let key = try reader.read(String.self)
      self[key] = try reader.read(Value.self)
    }
  }

  func write(to writer: inout WireWriter) {
    writer.write(count)
    for (key, value) in self {
      writer.write(key)
      writer.write(value)
    }
  }
}

extension Duration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      secondsComponent: try reader.read(), attosecondsComponent: try reader.read(Int64.self))
  }

  func write(to writer: inout WireWriter) {
    writer.write(components.seconds)
    writer.write(components.attoseconds)
  }
}

extension ByteCount: WireValue {
  init(from reader: inout WireReader) throws(WireFault) { self.init(bytes: try reader.read()) }
  func write(to writer: inout WireWriter) { writer.write(bytes) }
}

extension Technique: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    guard let value = Self(rawValue: try reader.read()) else { throw WireFault() }
    self = value
  }

  func write(to writer: inout WireWriter) { writer.write(rawValue) }
}
