/// Reads a tar archive: POSIX.1-2017's ustar and pax interchange formats, GNU's long names and numbers (tar(5)).
package struct TarReader {
  private static let blockSize = 512
  /// Extended headers and long names: nobody's are longer.
  private static let headerLimit: UInt64 = 1 << 20
  private static let entryLimit = 4 << 20

  private let bytes: ByteReader
  private let name: String
  private var header = [UInt8](repeating: 0, count: blockSize)
  /// Of the current entry: contents that were not read, and what fills its last block.
  private var contentsLeft: UInt64 = 0
  private var padding: UInt64 = 0
  private var entries = 0

  package init(_ bytes: ByteReader, name: String) {
    self.bytes = bytes
    self.name = name
  }

  private func damaged(_ problem: String) -> ImageArchiveFailure {
    ImageArchiveFailure("\(name) is no tar archive, or damaged: \(problem)")
  }

  /// The next entry; `nil` at the archive's end.
  package mutating func next() throws(ImageArchiveFailure) -> TarEntry? {
    var extended: [String: [UInt8]] = [:]
    while true {
      try skipContents()
      guard try readHeader() else { return nil }
      entries += 1
      guard entries <= Self.entryLimit else { throw damaged("it has more than \(Self.entryLimit) entries") }
      let kind = header[156]
      var entry = try plainEntry()
      switch kind {
      case UInt8(ascii: "x"):
        for (key, value) in try records(try text(entry.size)) { extended[key] = value }
      case UInt8(ascii: "g"): _ = try text(entry.size)
      case UInt8(ascii: "L"): extended["path"] = Self.withoutZeros(try text(entry.size))
      case UInt8(ascii: "K"): extended["linkpath"] = Self.withoutZeros(try text(entry.size))
      default:
        try apply(extended, to: &entry)
        guard let known = Self.kinds[kind] else {
          throw damaged("it has an entry of the kind \(kind), which is not supported (sparse files, volumes)")
        }
        // Older archives have folders as files with a slash behind.
        entry.kind = known == .file && entry.path.last == UInt8(ascii: "/") ? .directory : known
        contentsLeft = known == .file ? entry.size : 0
        padding = known == .file ? Self.padding(of: entry.size) : 0
        return entry
      }
    }
  }

  private static let kinds: [UInt8: TarEntry.Kind] = [
    0: .file, UInt8(ascii: "0"): .file, UInt8(ascii: "7"): .file, UInt8(ascii: "1"): .hardLink,
    UInt8(ascii: "2"): .symbolicLink, UInt8(ascii: "3"): .device, UInt8(ascii: "4"): .device,
    UInt8(ascii: "5"): .directory, UInt8(ascii: "6"): .pipe,
  ]

  /// The next bytes of the entry's contents; none at their end.
  package mutating func read(into room: UnsafeMutableRawBufferPointer) throws(ImageArchiveFailure) -> Int {
    let count = Int(min(UInt64(room.count), contentsLeft))
    guard count > 0 else { return 0 }
    guard try bytes.read(into: UnsafeMutableRawBufferPointer(rebasing: room[..<count])) == count else {
      throw damaged("it is cut off")
    }
    contentsLeft -= UInt64(count)
    return count
  }

  private mutating func skipContents() throws(ImageArchiveFailure) {
    var left = contentsLeft + padding
    (contentsLeft, padding) = (0, 0)
    guard left > 0 else { return }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    defer { buffer.deallocate() }
    while left > 0 {
      let count = Int(min(left, UInt64(buffer.count)))
      guard try bytes.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])) == count else {
        throw damaged("it is cut off")
      }
      left -= UInt64(count)
    }
  }

  private static func padding(of size: UInt64) -> UInt64 {
    (UInt64(blockSize) - size % UInt64(blockSize)) % UInt64(blockSize)
  }

  /// - Returns: whether there is one: two blocks of zeros, or nothing more, are the end.
  private mutating func readHeader() throws(ImageArchiveFailure) -> Bool {
    let count = try fillHeader()
    if count == 0, entries > 0 { return false }
    guard count == Self.blockSize else { throw damaged(entries == 0 ? "it has no header" : "it is cut off") }
    if header.allSatisfy({ $0 == 0 }) {
      guard entries > 0 else {
        // An empty archive has nothing but its end.
        return false
      }
      return false
    }
    // The sum of all bytes, with the sum's own field as spaces.
    let sum = header.enumerated().reduce(0) { $0 + (148..<156 ~= $1.offset ? 0x20 : Int($1.element)) }
    guard let stated = number(148, 8), stated == UInt64(sum) else { throw damaged("a header's check sum is wrong") }
    return true
  }

  private mutating func fillHeader() throws(ImageArchiveFailure) -> Int {
    var result = 0
    var failure: ImageArchiveFailure?
    header.withUnsafeMutableBytes { room in
      do throws(ImageArchiveFailure) { result = try bytes.read(into: room) } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }

  private func field(_ offset: Int, _ count: Int) -> [UInt8] {
    Array(header[offset..<(offset + count)].prefix { $0 != 0 })
  }

  /// Octal digits; or, with the first bit set, a binary number (GNU).
  private func number(_ offset: Int, _ count: Int) -> UInt64? {
    if header[offset] & 0x80 != 0 {
      guard header[offset] == 0x80, header[(offset + 1)..<(offset + max(count - 8, 1))].allSatisfy({ $0 == 0 }) else {
        return nil
      }
      return header[(offset + max(count - 8, 1))..<(offset + count)].reduce(0) { $0 << 8 | UInt64($1) }
    }
    let digits = field(offset, count).filter { $0 != 0x20 }
    if digits.isEmpty { return 0 }
    return UInt64(String(decoding: digits, as: UTF8.self), radix: 8)
  }

  private func plainEntry() throws(ImageArchiveFailure) -> TarEntry {
    guard let mode = number(100, 8), let user = number(108, 8), let group = number(116, 8), let size = number(124, 12)
    else { throw damaged("a header's number is none") }
    var entry = TarEntry()
    entry.path = field(0, 100)
    // ustar: a prefix; GNU has other things there.
    let prefix = header[257..<263].elementsEqual(Array("ustar\0".utf8)) ? field(345, 155) : []
    if !prefix.isEmpty { entry.path = prefix + [UInt8(ascii: "/")] + entry.path }
    entry.target = field(157, 100)
    entry.mode = UInt32(truncatingIfNeeded: mode & 0o7777)
    entry.user = UInt32(clamping: user)
    entry.group = UInt32(clamping: group)
    entry.size = size
    entry.time = Int64(clamping: number(136, 12) ?? 0)
    guard size <= UInt64(Int64.max) else { throw damaged("a file's size is none") }
    return entry
  }

  // MARK: Extended headers

  private mutating func text(_ size: UInt64) throws(ImageArchiveFailure) -> [UInt8] {
    guard size <= Self.headerLimit else { throw damaged("an extended header has \(size) bytes") }
    contentsLeft = size
    padding = Self.padding(of: size)
    var text = [UInt8](repeating: 0, count: Int(size))
    var failure: ImageArchiveFailure?
    text.withUnsafeMutableBytes { room in
      do throws(ImageArchiveFailure) { _ = try read(into: room) } catch { failure = error }
    }
    if let failure { throw failure }
    return text
  }

  private static func withoutZeros(_ text: [UInt8]) -> [UInt8] { Array(text.prefix { $0 != 0 }) }

  /// "LENGTH KEY=VALUE\n" each.
  private func records(_ text: [UInt8]) throws(ImageArchiveFailure) -> [(String, [UInt8])] {
    var records: [(String, [UInt8])] = []
    var rest = text[...]
    while !rest.isEmpty {
      guard let space = rest.firstIndex(of: 0x20),
        let length = Int(String(decoding: rest[..<space], as: UTF8.self)), length > space - rest.startIndex + 1,
        length <= rest.count, rest[rest.startIndex + length - 1] == 0x0a
      else { throw damaged("an extended header is none") }
      let record = rest[(space + 1)..<(rest.startIndex + length - 1)]
      guard let equals = record.firstIndex(of: UInt8(ascii: "=")) else { throw damaged("an extended header is none") }
      records.append((String(decoding: record[..<equals], as: UTF8.self), Array(record[(equals + 1)...])))
      rest = rest[(rest.startIndex + length)...]
    }
    return records
  }

  private func apply(_ records: [String: [UInt8]], to entry: inout TarEntry) throws(ImageArchiveFailure) {
    if let path = records["path"] { entry.path = path }
    if let target = records["linkpath"] { entry.target = target }
    func number(_ key: String) throws(ImageArchiveFailure) -> UInt64? {
      guard let text = records[key] else { return nil }
      guard let value = UInt64(String(decoding: text, as: UTF8.self)) else { throw damaged("its \(key) is no number") }
      return value
    }
    if let size = try number("size") {
      guard size <= UInt64(Int64.max) else { throw damaged("a file's size is none") }
      entry.size = size
    }
    if let user = try number("uid") { entry.user = UInt32(clamping: user) }
    if let group = try number("gid") { entry.group = UInt32(clamping: group) }
    if let time = records["mtime"], let seconds = Double(String(decoding: time, as: UTF8.self)), abs(seconds) < 1e15 {
      entry.time = Int64(seconds)
    }
    if records.keys.contains(where: { $0.hasPrefix("GNU.sparse.") }) {
      throw damaged("it has sparse files, which are not supported: make it without --sparse")
    }
  }
}
