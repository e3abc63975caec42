// As much of ELF as a look at an image's code needs: sections, their names, symbols, program headers.
//
// The loader in `Boot` reads program headers only, as a processor would need them; here it is the sections, which a loader
// never looks at. Whatever does not fit the file is left out, for an image may be looked at because it is broken.

/// An ELF file's sections and symbols.
struct ELFImage {
  struct Section {
    let name: String
    let type: UInt32
    let flags: UInt64
    let address: UInt64
    /// Where its bytes are in the file; empty if it has none there.
    let range: Range<Int>
    let link: Int
    let entrySize: Int

    var isExecutable: Bool { flags & 4 != 0 }
  }

  /// A part of the file that is loaded, for files without sections.
  struct Segment {
    let flags: UInt32
    let address: UInt64
    let range: Range<Int>

    var isExecutable: Bool { flags & 1 != 0 }
  }

  static let noBits: UInt32 = 8
  private static let symbolTable: UInt32 = 2
  private static let dynamicSymbolTable: UInt32 = 11
  /// More than that no file has.
  private static let tableLimit = 1 << 16
  /// Of all symbols' names together, in bytes: names may be each other's ends.
  private static let namesLimit = 256 << 20

  let bytes: [UInt8]
  let is64Bit: Bool
  let sections: [Section]
  let segments: [Segment]

  /// `nil` unless it is an ELF file for x86 or x86-64, little-endian.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= 52, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]), bytes[5] == 1 else { return nil }
    is64Bit = bytes[4] == 2
    self.bytes = bytes
    let reader = FieldReader(bytes)
    guard let machine = reader.read(UInt16.self, 18), machine == 62 || machine == 3 else { return nil }
    segments = Self.segments(reader, is64Bit: is64Bit)
    sections = Self.sections(reader, is64Bit: is64Bit)
  }

  /// The section of this name.
  func section(_ name: String) -> Section? { sections.first { $0.name == name } }

  /// Functions and other names for places in executable sections.
  var symbols: [SymbolTable.Symbol] {
    guard
      let table = sections.first(where: { $0.type == Self.symbolTable })
        ?? sections.first(where: { $0.type == Self.dynamicSymbolTable }), sections.indices.contains(table.link)
    else { return [] }
    let reader = FieldReader(bytes)
    let names = sections[table.link].range
    let size = is64Bit ? 24 : 16
    var symbols: [SymbolTable.Symbol] = []
    var room = Self.namesLimit
    for index in 0..<(table.range.count / size) {
      let base = table.range.lowerBound + index * size
      guard let nameOffset = reader.read(UInt32.self, base),
        let information = reader.read(UInt8.self, base + (is64Bit ? 4 : 12)),
        let section = reader.read(UInt16.self, base + (is64Bit ? 6 : 14)), information & 15 <= 2,
        sections.indices.contains(Int(section)), sections[Int(section)].isExecutable,
        let value = is64Bit ? reader.read(UInt64.self, base + 8) : reader.read(UInt32.self, base + 4).map(UInt64.init),
        let length = is64Bit ? reader.read(UInt64.self, base + 16) : reader.read(UInt32.self, base + 8).map(UInt64.init)
      else { continue }
      let name = reader.string(names, Int(nameOffset))
      guard !name.isEmpty else { continue }
      room -= name.utf8.count
      guard room >= 0 else { break }
      symbols.append(SymbolTable.Symbol(address: value, size: length, name: name))
    }
    return symbols
  }

  private static func segments(_ reader: FieldReader, is64Bit: Bool) -> [Segment] {
    guard let offset = is64Bit ? reader.read(UInt64.self, 32) : reader.read(UInt32.self, 28).map(UInt64.init),
      let start = Int(exactly: offset), let size = reader.read(UInt16.self, is64Bit ? 54 : 42),
      let count = reader.read(UInt16.self, is64Bit ? 56 : 44), size >= (is64Bit ? 56 : 32)
    else { return [] }
    var segments: [Segment] = []
    for index in 0..<Int(count) {
      let (base, overflow) = start.addingReportingOverflow(index * Int(size))
      guard !overflow, reader.read(UInt32.self, base) == 1 else { continue }
      if is64Bit {
        guard let flags = reader.read(UInt32.self, base &+ 4), let offset = reader.read(UInt64.self, base &+ 8),
          let address = reader.read(UInt64.self, base &+ 16), let size = reader.read(UInt64.self, base &+ 32),
          let range = reader.range(offset, size)
        else { continue }
        segments.append(Segment(flags: flags, address: address, range: range))
      } else {
        guard let flags = reader.read(UInt32.self, base &+ 24), let offset = reader.read(UInt32.self, base &+ 4),
          let address = reader.read(UInt32.self, base &+ 8), let size = reader.read(UInt32.self, base &+ 16),
          let range = reader.range(UInt64(offset), UInt64(size))
        else { continue }
        segments.append(Segment(flags: flags, address: UInt64(address), range: range))
      }
    }
    return segments
  }

  private static func sections(_ reader: FieldReader, is64Bit: Bool) -> [Section] {
    guard let offset = is64Bit ? reader.read(UInt64.self, 40) : reader.read(UInt32.self, 32).map(UInt64.init),
      let start = Int(exactly: offset), start > 0, let size = reader.read(UInt16.self, is64Bit ? 58 : 46),
      let smallCount = reader.read(UInt16.self, is64Bit ? 60 : 48),
      let smallNames = reader.read(UInt16.self, is64Bit ? 62 : 50), size >= (is64Bit ? 64 : 40)
    else { return [] }
    func word(_ index: Int, _ wide: Int, _ narrow: Int) -> UInt64? {
      let (base, overflow) = start.addingReportingOverflow(index * Int(size))
      guard !overflow else { return nil }
      return is64Bit
        ? reader.read(UInt64.self, base &+ wide) : reader.read(UInt32.self, base &+ narrow).map(UInt64.init)
    }
    func half(_ index: Int, _ wide: Int, _ narrow: Int) -> UInt32? {
      let (base, overflow) = start.addingReportingOverflow(index * Int(size))
      return overflow ? nil : reader.read(UInt32.self, base &+ (is64Bit ? wide : narrow))
    }
    // A file with very many sections has their number, and that of the names' section, in the first one.
    let count = smallCount == 0 ? Int(clamping: word(0, 32, 20) ?? 0) : Int(smallCount)
    let namesIndex = smallNames == 0xffff ? Int(half(0, 40, 24) ?? 0) : Int(smallNames)
    guard count <= tableLimit else { return [] }
    let names = word(namesIndex, 24, 16).flatMap { offset in
      word(namesIndex, 32, 20).flatMap { reader.range(offset, $0) }
    }
    return (0..<count).map { index in
      let type = half(index, 4, 4) ?? 0
      let range =
        type == noBits
        ? nil : word(index, 24, 16).flatMap { offset in word(index, 32, 20).flatMap { reader.range(offset, $0) } }
      return Section(
        name: reader.string(names ?? 0..<0, Int(half(index, 0, 0) ?? 0)), type: type, flags: word(index, 8, 8) ?? 0,
        address: word(index, 16, 12) ?? 0, range: range ?? 0..<0, link: Int(half(index, 40, 24) ?? 0),
        entrySize: Int(clamping: word(index, 56, 36) ?? 0))
    }
  }
}
