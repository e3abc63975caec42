import TrivisorVMM

/// The symbols of a kernel that asks for them by the note BSD_SYMTAB (libelf's `elf_load_bsdsyms`). Behind its last segment come
///
///     size (4 bytes) │ ELF header │ three section headers: none, symbols, strings │ symbols │ strings
///
/// each part at a multiple of the word; the offsets in the headers count from the ELF header.
struct XenKernelSymbols {
  let image: BootImage
  let elfClass: ELFHeader.Class

  private static let sectionCount = 3
  private static let symbolsIndex = 1
  private static let stringsIndex = 2

  private var isWide: Bool { elfClass == .elf64 }
  private var headerSize: Int { isWide ? 64 : 52 }
  private var sectionHeaderSize: Int { isWide ? 64 : 40 }
  /// Both classes have room for the larger header in front of the section headers.
  private static let sectionTableOffset = 64

  private func aligned(_ value: UInt64) -> UInt64 { isWide ? (value + 7) & ~7 : (value + 3) & ~3 }

  /// - Parameter limit: the end of what may be used.
  /// - Returns: where they end; `end` where the kernel has none.
  func place(behind end: UInt64, limit: UInt64, _ memory: GuestMemory) throws(BootFailure) -> UInt64 {
    let sections = try ELFSection.all(of: image, elfClass)
    guard let symbols = sections.first(where: { $0.type == ELFSection.symbols }),
      sections.indices.contains(Int(symbols.link)), sections[Int(symbols.link)].type == ELFSection.strings
    else { return end }
    let strings = sections[Int(symbols.link)]
    let part = "the kernel's symbols"
    for section in [symbols, strings] {
      guard section.fileOffset <= image.size, section.size <= image.size - section.fileOffset else {
        throw BootFailure(
          image.name,
          .truncated(part: part, offset: section.fileOffset, size: section.size, imageSize: image.size))
      }
    }
    let start = aligned(end)
    let elf = start + 4
    let symbolsPlace = aligned(
      elf + UInt64(Self.sectionTableOffset + Self.sectionCount * sectionHeaderSize))
    let stringsPlace = aligned(symbolsPlace + symbols.size)
    let stop = aligned(stringsPlace + strings.size)
    guard stop <= limit else {
      throw BootFailure(image.name, .noRoom(part: part, size: stop - end, below: limit))
    }
    var headers = try self.headers(symbols, strings)
    set(&headers, Self.symbolsIndex, offset: symbolsPlace - elf, link: UInt32(Self.stringsIndex))
    set(&headers, Self.stringsIndex, offset: stringsPlace - elf, link: nil)
    var beginning = [UInt8](repeating: 0, count: 4)
    Self.put(stop - start, at: 0, size: 4, in: &beginning)
    do throws(GuestMemoryFault) {
      try memory.copy(beginning + headers, to: GuestPhysicalAddress(start))
    } catch {
      throw BootFailure(image.name, .outsideMemory(part: part, base: start, size: stop - start))
    }
    try image.copy(part, at: symbols.fileOffset, count: symbols.size, to: symbolsPlace, of: memory)
    try image.copy(part, at: strings.fileOffset, count: strings.size, to: stringsPlace, of: memory)
    return stop
  }

  /// The file's own ELF header, without segments and with three sections, and their headers as they are in the file.
  private func headers(_ symbols: ELFSection, _ strings: ELFSection) throws(BootFailure) -> [UInt8] {
    let original = try image.prefix(headerSize, as: "the ELF header")
    var bytes = [UInt8](repeating: 0, count: Self.sectionTableOffset + Self.sectionCount * sectionHeaderSize)
    for (position, byte) in original.bytes.enumerated() { bytes[position] = byte }
    func put(_ value: UInt64, _ wide: Int, _ narrow: Int, _ wideSize: Int, _ narrowSize: Int) {
      Self.put(value, at: isWide ? wide : narrow, size: isWide ? wideSize : narrowSize, in: &bytes)
    }
    put(1, 20, 20, 4, 4)
    put(0, 32, 28, 8, 4)
    put(UInt64(Self.sectionTableOffset), 40, 32, 8, 4)
    put(UInt64(headerSize), 52, 40, 2, 2)
    put(0, 54, 42, 2, 2)
    put(0, 56, 44, 2, 2)
    put(UInt64(sectionHeaderSize), 58, 46, 2, 2)
    put(UInt64(Self.sectionCount), 60, 48, 2, 2)
    put(0, 62, 50, 2, 2)
    for (index, section) in [(Self.symbolsIndex, symbols), (Self.stringsIndex, strings)] {
      let base = Self.sectionTableOffset + index * sectionHeaderSize
      for (position, byte) in section.header.enumerated() { bytes[base + position] = byte }
    }
    return bytes
  }

  private func set(_ headers: inout [UInt8], _ index: Int, offset: UInt64, link: UInt32?) {
    let base = Self.sectionTableOffset + index * sectionHeaderSize
    Self.put(offset, at: base + (isWide ? 24 : 16), size: isWide ? 8 : 4, in: &headers)
    if let link { Self.put(UInt64(link), at: base + (isWide ? 40 : 24), size: 4, in: &headers) }
  }

  private static func put(_ value: UInt64, at position: Int, size: Int, in bytes: inout [UInt8]) {
    for byte in 0..<size { bytes[position + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
  }
}
