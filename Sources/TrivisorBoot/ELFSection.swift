import TrivisorVMM

/// One entry of an ELF file's section header table (System V ABI, chapter 4). Loading needs none; what a kernel says of itself
/// may be in one.
struct ELFSection {
  let nameOffset: UInt32
  let type: UInt32
  let address: UInt64
  let fileOffset: UInt64
  let size: UInt64
  /// Of a symbol table: which section has its strings.
  let link: UInt32
  /// The entry as it is in the file.
  let header: [UInt8]

  static let symbols: UInt32 = 2
  static let strings: UInt32 = 3
  static let note: UInt32 = 7
  static let noBits: UInt32 = 8

  /// More than any kernel has; a bound for the work that an image can make.
  private static let maximumCount = 4096

  /// The sections of a file and, for their names, the section that holds these; none where the file has none or says of them
  /// what can't be.
  static func all(of image: BootImage, _ elfClass: ELFHeader.Class) throws(BootFailure) -> [ELFSection] {
    let header = try image.prefix(ELFHeader.maximumSize, as: "the ELF header")
    let isWide = elfClass == .elf64
    let offset: UInt64 =
      isWide ? try header.read(at: 40) : UInt64(try header.read(UInt32.self, at: 32))
    let size = Int(try header.read(UInt16.self, at: isWide ? 58 : 46))
    let count = Int(try header.read(UInt16.self, at: isWide ? 60 : 48))
    guard offset > 0, size == (isWide ? 64 : 40), count <= maximumCount, offset <= image.size,
      UInt64(count * size) <= image.size - offset
    else { return [] }
    let table = try image.read("the section header table", at: offset, count: count * size)
    var sections: [ELFSection] = []
    for index in 0..<count {
      let base = index * size
      func field(_ wide: Int, _ narrow: Int) throws(BootFailure) -> UInt64 {
        isWide ? try table.read(at: base + wide) : UInt64(try table.read(UInt32.self, at: base + narrow))
      }
      sections.append(
        ELFSection(
          nameOffset: try table.read(at: base), type: try table.read(at: base + 4), address: try field(16, 12),
          fileOffset: try field(24, 16), size: try field(32, 20), link: try table.read(at: base + (isWide ? 40 : 24)),
          header: Array(table.slice(at: base, count: size) ?? [])))
    }
    return sections
  }

  /// The index of the section with the names of all.
  static func nameTable(of image: BootImage, _ elfClass: ELFHeader.Class) throws(BootFailure) -> Int {
    let header = try image.prefix(ELFHeader.maximumSize, as: "the ELF header")
    return Int(try header.read(UInt16.self, at: elfClass == .elf64 ? 62 : 50))
  }

  /// Its bytes, at most as many as asked for; none where the file doesn't have them.
  func contents(of image: BootImage, limit: UInt64) throws(BootFailure) -> ImageBytes? {
    guard type != Self.noBits, fileOffset < image.size else { return nil }
    return try image.read(
      "a section", at: fileOffset, count: Int(min(size, image.size - fileOffset, limit)))
  }
}
