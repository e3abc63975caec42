// One module: a relocatable ELF file of 64 bits (System V ABI, chapter 4), packed or not.
//
// Of a file that is not packed, only the section headers and .modinfo are read: a kernel has thousands of modules.

import TrivisorBoot
import Glibc
import SystemPackage

/// A module of a kernel's.
public struct ModuleFile: Sendable {
  /// More than any module has.
  private static let sizeLimit = 256 << 20

  /// With underscores.
  public let name: String
  /// On the host.
  public let path: FilePath
  /// Within its folder, as modules.dep names it.
  public let relativePath: String

  /// All of it, unpacked.
  /// - Throws: `BootFailure`.
  public func contents() throws(BootFailure) -> [UInt8] {
    try PackedFile.contents(try BootImage(path: path), limit: Self.sizeLimit)
  }

  /// What it says of itself.
  /// - Throws: `BootFailure` when it can't be read.
  public func information() throws(BootFailure) -> ModuleInformation {
    if path.string.hasSuffix(".ko"), let section = Self.readSection(path) {
      return ModuleInformation(section: section)
    }
    return Self.information(try contents())
  }

  /// What a module says of itself that is in memory.
  package static func information(_ bytes: [UInt8]) -> ModuleInformation {
    let section = section(size: bytes.count) { offset, count in
      offset >= 0 && count >= 0 && offset <= bytes.count - count ? Array(bytes[offset..<(offset + count)]) : nil
    }
    return ModuleInformation(section: section ?? [])
  }

  private static func readSection(_ path: FilePath) -> [UInt8]? {
    let descriptor = path.withPlatformString { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return nil }
    return section(size: Int(status.st_size)) { offset, count in
      guard offset >= 0, count >= 0, count <= 16 << 20 else { return nil }
      var buffer = [UInt8](repeating: 0, count: count)
      return pread(descriptor, &buffer, count, off_t(offset)) == count ? buffer : nil
    }
  }

  /// The contents of .modinfo.
  /// - Parameter read: bytes from an offset on, or `nil` where there are not so many.
  private static func section(size: Int, read: (Int, Int) -> [UInt8]?) -> [UInt8]? {
    guard let head = read(0, 64), head.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]) else { return nil }
    func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
      Int(truncatingIfNeeded: (0..<count).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) })
    }
    // e_shoff, e_shentsize, e_shnum, e_shstrndx
    let (table, entrySize, count) = (number(head, 40, 8), number(head, 58, 2), number(head, 60, 2))
    let namesIndex = number(head, 62, 2)
    guard entrySize == 64, count > 0, namesIndex < count, table > 0, table <= size,
      let headers = read(table, count * entrySize)
    else { return nil }
    // sh_name, sh_offset, sh_size
    func place(_ index: Int) -> (name: Int, offset: Int, size: Int) {
      let base = index * entrySize
      return (number(headers, base, 4), number(headers, base + 24, 8), number(headers, base + 32, 8))
    }
    let names = place(namesIndex)
    guard let text = read(names.offset, names.size) else { return nil }
    let wanted = Array(".modinfo\0".utf8)
    for index in 0..<count {
      let section = place(index)
      guard section.name <= text.count - wanted.count, text[section.name...].starts(with: wanted) else { continue }
      return read(section.offset, section.size)
    }
    return nil
  }
}
