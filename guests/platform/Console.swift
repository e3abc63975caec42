// Text for the console without a heap: the parts of an interpolated string are written as they come.

/// `Console.print("processor \(n) of \(count)")`: literals and unsigned numbers, no allocation.
enum Console {
  /// The literal has been written by the time this is called; what is left is the end of the line.
  @inline(never)
  static func print(_ line: ConsoleText = "") {
    Platform.write(UInt8(ascii: "\r"))
    Platform.write(UInt8(ascii: "\n"))
  }

  static func write(_ text: ConsoleText) {}

  @inline(never)
  static func write(bytes: UnsafeBufferPointer<UInt8>) {
    for byte in bytes { Platform.write(byte) }
  }

  @inline(never)
  static func write(literal text: StaticString) {
    write(bytes: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  @inline(never)
  static func write(decimal value: UInt64) {
    if value >= 10 { write(decimal: value / 10) }
    Platform.write(UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: value % 10))
  }

  /// `0x` and at least `digits` digits, as many as the value has.
  @inline(never)
  static func write(hexadecimal value: UInt64, digits: Int = 1) {
    write(literal: "0x")
    var shift = 60
    while shift >= 0 {
      let digit = UInt8(truncatingIfNeeded: value >> UInt64(shift)) & 15
      if value >> UInt64(shift) != 0 || shift < 4 * digits {
        Platform.write(digit < 10 ? UInt8(ascii: "0") &+ digit : UInt8(ascii: "a") &+ digit &- 10)
      }
      shift &-= 4
    }
  }
}

struct ConsoleText: ExpressibleByStringInterpolation {
  init(stringLiteral text: StaticString) { Console.write(literal: text) }
  init(stringInterpolation: Interpolation) {}

  struct Interpolation: StringInterpolationProtocol {
    init(literalCapacity: Int, interpolationCount: Int) {}
    func appendLiteral(_ text: StaticString) { Console.write(literal: text) }
    func appendInterpolation(_ text: StaticString) { Console.write(literal: text) }
    func appendInterpolation(_ value: UInt64) { Console.write(decimal: value) }
    func appendInterpolation(hexadecimal value: UInt64, digits: Int = 1) {
      Console.write(hexadecimal: value, digits: digits)
    }
  }
}
