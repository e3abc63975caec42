import TrivisorSpoiledStates

/// Random numbers of all kinds that drivers and hosts are made of; the same ones for a seed.
struct FuzzRandom {
  private var generator: SeededGenerator

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  mutating func next() -> UInt64 { generator.next() }

  /// Zero, for nothing below zero.
  mutating func number(below limit: UInt64) -> UInt64 {
    limit == 0 ? 0 : UInt64.random(in: 0..<limit, using: &generator)
  }

  mutating func number(below limit: Int) -> Int { Int(number(below: UInt64(max(limit, 0)))) }

  /// Once in so many times.
  mutating func chance(_ one: UInt64) -> Bool { number(below: one) == 0 }

  mutating func pick<Values: Collection>(_ values: Values) -> Values.Element where Values.Index == Int {
    values[values.startIndex + number(below: values.count)]
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: index % 8 == 0 ? generator.next() : 0x78) }
      initialized = count
    }
  }
}

/// A request's bytes, put together little-endian.
struct FuzzBytes {
  private(set) var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func put(_ more: [UInt8]) { bytes += more }
}
