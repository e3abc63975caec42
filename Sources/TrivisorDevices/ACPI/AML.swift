// ACPI Machine Language, as much of it as a machine without moving parts needs.
//
// AML is a byte code for a tree of named objects. A block of objects (a scope, a device, a package) begins with its
// opcode and a length that counts itself, so a tree is encoded from the leaves up: each function here takes the encoded
// children and gives the encoded parent.
//
// Source: ACPI Specification 6.5, chapter 20 (opcodes, lengths, names) and 6.4 (resource descriptors).

/// Encoded AML: one or more terms.
struct AML: Sendable, Equatable {
  var bytes: [UInt8]

  init(_ bytes: [UInt8] = []) { self.bytes = bytes }

  /// Terms one after the other.
  init(_ terms: [AML]) { bytes = terms.flatMap(\.bytes) }

  // MARK: Data

  /// The shortest form of a number.
  static func integer(_ value: UInt64) -> AML {
    switch value {
    case 0: AML([0x00])
    case 1: AML([0x01])
    case ...0xff: AML([0x0a] + littleEndian(value, count: 1))
    case ...0xffff: AML([0x0b] + littleEndian(value, count: 2))
    case ...0xffff_ffff: AML([0x0c] + littleEndian(value, count: 4))
    default: AML([0x0e] + littleEndian(value, count: 8))
    }
  }

  /// ASCII text; other characters become question marks.
  static func string(_ text: String) -> AML {
    AML([0x0d] + text.unicodeScalars.map { $0.isASCII && $0.value != 0 ? UInt8($0.value) : 0x3f } + [0])
  }

  /// A Plug and Play identifier, "PNP0501": three letters in five bits each, then four hexadecimal digits.
  static func plugAndPlayID(_ text: String) -> AML {
    let characters = Array(text.utf8)
    let letters = characters.prefix(3).reduce(UInt32(0)) { $0 << 5 | UInt32($1 & 0x1f) }
    let digits = UInt32(text.suffix(4), radix: 16) ?? 0
    return integer(UInt64((letters << 16 | digits).byteSwapped))
  }

  static func package(_ elements: [AML]) -> AML {
    block([0x12], [UInt8(truncatingIfNeeded: elements.count)] + AML(elements).bytes)
  }

  static func buffer(_ content: [UInt8]) -> AML {
    block([0x11], integer(UInt64(content.count)).bytes + content)
  }

  // MARK: Names

  static func name(_ name: String, _ value: AML) -> AML { AML([0x08] + path(name) + value.bytes) }

  static func scope(_ name: String, _ terms: [AML]) -> AML { block([0x10], path(name) + AML(terms).bytes) }

  static func device(_ name: String, _ terms: [AML]) -> AML { block([0x5b, 0x82], path(name) + AML(terms).bytes) }

  // MARK: Methods

  /// - Parameter isSerialized: as methods must be that make names.
  static func method(_ name: String, arguments: UInt8, isSerialized: Bool, _ terms: [AML]) -> AML {
    block([0x14], path(name) + [arguments & 7 | (isSerialized ? 8 : 0)] + AML(terms).bytes)
  }

  /// The value that a method was called with; 0 to 6.
  static func argument(_ index: UInt8) -> AML { AML([0x68 + min(index, 6)]) }

  /// A name used as a value or a place.
  static func reference(_ name: String) -> AML { AML(path(name)) }

  /// Names four bytes of a buffer.
  static func doublewordField(_ buffer: AML, at offset: UInt64, _ name: String) -> AML {
    AML([0x8a] + buffer.bytes + integer(offset).bytes + path(name))
  }

  static func isEqual(_ left: AML, _ right: AML) -> AML { AML([0x93] + left.bytes + right.bytes) }
  static func not(_ condition: AML) -> AML { AML([0x92] + condition.bytes) }

  static func when(_ condition: AML, _ terms: [AML], otherwise: [AML] = []) -> AML {
    let first = block([0xa0], condition.bytes + AML(terms).bytes)
    return otherwise.isEmpty ? first : AML([first, block([0xa1], AML(otherwise).bytes)])
  }

  static func store(_ value: AML, to place: AML) -> AML { AML([0x70] + value.bytes + place.bytes) }
  /// Sets bits of a place.
  static func or(_ bits: UInt64, into place: AML) -> AML {
    AML([0x7d] + place.bytes + integer(bits).bytes + place.bytes)
  }
  static func giveBack(_ value: AML) -> AML { AML([0xa4] + value.bytes) }

  /// One segment of up to four characters, padded with underscores, after a root prefix if there is one.
  private static func path(_ name: String) -> [UInt8] {
    let root = name.hasPrefix("\\")
    let segment = Array(name.utf8.dropFirst(root ? 1 : 0).prefix(4))
    return (root ? [0x5c] : []) + segment + Array(repeating: 0x5f, count: 4 - segment.count)
  }

  // MARK: Resources

  /// What a `_CRS` gives.
  static func resourceTemplate(_ descriptors: [[UInt8]]) -> AML {
    // An end tag with a checksum of zero, which stands for "not computed".
    buffer(descriptors.flatMap { $0 } + [0x79, 0x00])
  }

  /// `count` ports from `base`, all 16 address lines decoded.
  static func ports(_ base: UInt16, count: UInt8) -> [UInt8] {
    [0x47, 0x01] + littleEndian(UInt64(base), count: 2) + littleEndian(UInt64(base), count: 2) + [0x01, count]
  }

  /// An interrupt of the 8259s: edge-triggered, active high, not shared.
  static func legacyInterrupt(_ line: Int) -> [UInt8] {
    [0x22] + littleEndian(1 << UInt64(line & 0x0f), count: 2)
  }

  /// A readable and writable range below 4 GiB.
  static func memory(_ base: UInt32, size: UInt32) -> [UInt8] {
    [0x86, 0x09, 0x00, 0x01] + littleEndian(UInt64(base), count: 4) + littleEndian(UInt64(size), count: 4)
  }

  /// Memory that a bridge passes on: readable, writable, not cacheable; an address space descriptor of 32 bits.
  static func passedMemory(_ base: UInt32, size: UInt32) -> [UInt8] {
    let (first, length) = (UInt64(base), UInt64(size))
    return [0x87, 0x17, 0x00, 0x00, 0x0c, 0x01] + littleEndian(0, count: 4) + littleEndian(first, count: 4)
      + littleEndian(first + length - 1, count: 4) + littleEndian(0, count: 4) + littleEndian(length, count: 4)
  }

  /// The numbers of the buses behind a bridge.
  static func passedBuses(_ first: UInt16, count: UInt16) -> [UInt8] {
    let (start, length) = (UInt64(first), UInt64(count))
    return [0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00] + littleEndian(0, count: 2) + littleEndian(start, count: 2)
      + littleEndian(start + length - 1, count: 2) + littleEndian(0, count: 2) + littleEndian(length, count: 2)
  }

  /// A global system interrupt: edge-triggered, active high.
  static func interrupt(_ number: UInt32, isShared: Bool) -> [UInt8] {
    [0x89, 0x06, 0x00, isShared ? 0x0b : 0x03, 0x01] + littleEndian(UInt64(number), count: 4)
  }

  // MARK: Lengths

  /// Opcode, length, content.
  private static func block(_ opcode: [UInt8], _ content: [UInt8]) -> AML {
    AML(opcode + packageLength(content.count) + content)
  }

  /// A length that counts its own bytes: six bits in one byte, or four and up to three bytes more.
  static func packageLength(_ contentCount: Int) -> [UInt8] {
    if contentCount + 1 < 1 << 6 { return [UInt8(contentCount + 1)] }
    for more in 1...3 where contentCount + 1 + more < 1 << (4 + 8 * more) || more == 3 {
      let length = contentCount + 1 + more
      return [UInt8(more << 6 | length & 0x0f)] + littleEndian(UInt64(length >> 4), count: more)
    }
    return []
  }
}

/// The low `count` bytes of `value`, least significant first.
func littleEndian(_ value: UInt64, count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
}
