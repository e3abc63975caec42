import TrivisorCLinux
import Glibc
import SystemPackage

/// The entries of a folder that the guest has opened, from a place on.
///
/// A place is what the host's file system says that it is, and any number of 63 bits; so a folder with entries that the share
/// brings along is read as a whole, and its places are indices.
struct DirectoryReader {
  /// One of them (getdents64(2), struct linux_dirent64).
  struct Entry {
    let name: ArraySlice<UInt8>
    let inode: UInt64
    /// DT_REG and so on.
    let kind: UInt8
    /// Where this entry is, and the one behind it.
    let place: UInt64
    let next: UInt64
    let size: Int

    var isDots: Bool { FileName.isDots(name) }
  }

  /// Bytes of an entry before its name.
  private static let headSize = 19
  private static let chunk = 32 << 10
  private static let regular: UInt8 = 8
  /// Inode numbers of the share's own entries.
  private static let extraInode: UInt64 = 1 << 47

  private let file: OpenFile

  /// - Parameter extraNames: hide what has the same name on the host.
  init(_ file: OpenFile, extraNames: [FileName]) throws(Errno) {
    self.file = file
    if !extraNames.isEmpty, !file.isListed { try list(extraNames) }
  }

  /// Goes on at a place that an entry named as the next one, or from the beginning.
  mutating func seek(_ place: UInt64) throws(Errno) {
    guard place != file.offset else { return }
    file.position = 0
    file.offset = place
    if file.isListed {
      file.offset = 0
      while file.offset < place, let entry = parse() {
        file.position += entry.size
        file.offset = entry.next
      }
      return
    }
    file.entries = []
    guard file.descriptor >= 0 else { return }
    guard lseek(file.descriptor, off_t(bitPattern: UInt(place)), SEEK_SET) >= 0 else { throw Errno(rawValue: errno) }
  }

  /// - Returns: `nil` at the end.
  mutating func next() throws(Errno) -> Entry? {
    if file.position >= file.entries.count {
      guard !file.isListed, try refill() else { return nil }
    }
    guard let entry = parse() else { throw .ioError }
    file.position += entry.size
    file.offset = entry.next
    return entry
  }

  /// The last entry is for the next time.
  mutating func putBack(_ entry: Entry) {
    file.offset = entry.place
    file.position -= entry.size
  }

  private func refill() throws(Errno) -> Bool {
    guard file.descriptor >= 0 else { return false }
    file.position = 0
    var failure: Errno?
    file.entries = [UInt8](unsafeUninitializedCapacity: Self.chunk) { buffer, initialized in
      let count = clinux_get_entries(file.descriptor, buffer.baseAddress, UInt(buffer.count))
      initialized = max(Int(count), 0)
      if count < 0 { failure = Errno(rawValue: errno) }
    }
    // A folder that was removed meanwhile has no entries.
    if let failure, failure != .noSuchFileOrDirectory { throw failure }
    return !file.entries.isEmpty
  }

  /// Reads all of the folder, with the share's own entries behind the host's.
  private func list(_ extraNames: [FileName]) throws(Errno) {
    var all: [UInt8] = []
    var index: UInt64 = 0
    func put(_ name: some Collection<UInt8>, _ inode: UInt64, _ kind: UInt8) {
      index += 1
      let size = UInt16(Self.headSize + name.count + 1)
      for value in [inode, index] { withUnsafeBytes(of: value.littleEndian) { all.append(contentsOf: $0) } }
      withUnsafeBytes(of: size.littleEndian) { all.append(contentsOf: $0) }
      all.append(kind)
      all += name
      all.append(0)
    }
    while try refill() {
      while let entry = parse() {
        file.position += entry.size
        if let name = try? FileName(entry.name), extraNames.contains(name) { continue }
        put(entry.name, entry.inode, entry.kind)
      }
    }
    for (number, name) in extraNames.enumerated() {
      put(name.characters.dropLast().map { UInt8(bitPattern: $0) }, Self.extraInode + UInt64(number), Self.regular)
    }
    file.entries = all
    file.isListed = true
    file.position = 0
    file.offset = 0
  }

  /// d_ino, d_off, d_reclen, d_type, d_name.
  private func parse() -> Entry? {
    let start = file.position
    let place = file.offset
    return file.entries.withUnsafeBytes { all -> Entry? in
      guard all.count - start > Self.headSize else { return nil }
      let size = Int(all.loadUnaligned(fromByteOffset: start + 16, as: UInt16.self))
      guard size > Self.headSize, size <= all.count - start else { return nil }
      var end = start + Self.headSize
      while end < start + size, all[end] != 0 { end += 1 }
      return Entry(
        name: file.entries[(start + Self.headSize)..<end],
        inode: all.loadUnaligned(fromByteOffset: start, as: UInt64.self),
        kind: all[start + 18], place: place, next: all.loadUnaligned(fromByteOffset: start + 8, as: UInt64.self),
        size: size)
    }
  }
}
