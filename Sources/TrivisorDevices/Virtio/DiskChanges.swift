// What a guest changes of a disk whose image stays as it is: copy on write, sector by sector.
//
//     image    ────────────────────────────────   read only, perhaps by several machines
//     changes       ▓▓▓        ▓   ▓▓▓▓▓▓▓▓▓▓     a sparse file without a name, gone with the last descriptor
//     map      0000011100000000100011111111110    a bit a sector: where its contents are
//
// Since the unit is the smallest that a guest can write, nothing has to be copied from the image. A bit is set behind the
// sector's contents, so whoever sees it finds them.

import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// Changes of a disk's content that end with whoever holds this. They outlive a reset of the machine.
public final class DiskChanges: Sendable {
  private typealias Word = Atomic<UInt64>
  private static let wordBits: UInt64 = 64
  /// Bytes of a piece of the saved form.
  private static let pieceLimit = 1 << 20

  /// Which sectors are in the file; made when the size of the disk is known.
  private struct Map: @unchecked Sendable {
    // Unchecked: atomic words that stay as long as the owner does.
    let words: UnsafeMutablePointer<Word>
    let sectorCount: UInt64

    var byteCount: Int { Int((sectorCount + wordBits - 1) / wordBits) * 8 }
  }

  let descriptor: Int32
  private let map = Mutex<Map?>(nil)

  /// A file in the folder for temporary files that outlive memory: TMPDIR, or /var/tmp.
  /// - Throws: `DeviceFailure` when the host gives none.
  public init() throws(DeviceFailure) {
    let named = getenv("TMPDIR").map { String(cString: $0) } ?? ""
    let folder = named.hasPrefix("/") ? named : "/var/tmp"
    var opened = open(folder, CLINUX_O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600)
    if opened < 0, [EOPNOTSUPP, EISDIR, ENOENT].contains(errno) {
      // File systems without such files. mkostemp(3) replaces the last six letters, which must be X.
      var template = Array("\(folder)/trivisor-\(String(repeating: "X", count: 6))".utf8CString)
      opened = mkostemp(&template, O_CLOEXEC)
      if opened >= 0 { unlink(template) }
    }
    guard opened >= 0 else {
      throw DeviceFailure(
        call: "make a file in \(folder)", Errno(rawValue: errno),
        remedy: "name a folder that you may write to by TMPDIR")
    }
    descriptor = opened
  }

  deinit {
    close(descriptor)
    map.withLock { map in
      if let map { munmap(map.words, map.byteCount) }
    }
  }

  /// Takes a disk's size; again is nothing new, unless it is another size.
  func adopt(sectorCount: UInt64) throws(DeviceFailure) {
    let failure: DeviceFailure? = map.withLock { map in
      if let map {
        return map.sectorCount == sectorCount
          ? nil : DeviceFailure(call: "open the image again", reason: "its size is another one by now")
      }
      let byteCount = Int((sectorCount + Self.wordBits - 1) / Self.wordBits) * 8
      guard ftruncate(descriptor, off_t(sectorCount) * off_t(DiskImage.sectorSize)) == 0 else {
        return DeviceFailure(call: "make a file as large as the disk", Errno(rawValue: errno))
      }
      let made = mmap(nil, byteCount, PROT_READ | PROT_WRITE, CLINUX_MAP_ANONYMOUS_NORESERVE, -1, 0)
      guard let made, made != MAP_FAILED else { return DeviceFailure(call: "mmap", Errno(rawValue: errno)) }
      map = Map(words: made.assumingMemoryBound(to: Word.self), sectorCount: sectorCount)
      return nil
    }
    if let failure { throw failure }
  }

  /// The place of the map does not change once it is there.
  private var words: UnsafeMutablePointer<Word>? { map.withLock { $0 }?.words }

  /// From `first` on, how many sectors, at most `limit`, are all in the file or all in the image.
  func run(from first: UInt64, limit: UInt64) -> (count: UInt64, isChanged: Bool) {
    guard let words else { return (limit, false) }
    var sector = first
    var isChanged: Bool?
    while sector < first + limit {
      let word = words[Int(sector / Self.wordBits)].load(ordering: .acquiring)
      let place = sector % Self.wordBits
      let rest = word >> place
      let kind = isChanged ?? (rest & 1 != 0)
      isChanged = kind
      // How far it goes on as it began.
      let same = min(UInt64((kind ? ~rest : rest).trailingZeroBitCount), Self.wordBits - place)
      sector += same
      if place + same < Self.wordBits { break }
    }
    return (min(sector - first, limit), isChanged ?? false)
  }

  /// Says that the contents of these sectors are in the file.
  func note(_ first: UInt64, count: UInt64) {
    guard let words, count > 0 else { return }
    var sector = first
    let end = first + count
    while sector < end {
      let place = sector % Self.wordBits
      let bits = min(Self.wordBits - place, end - sector)
      let mask = bits == Self.wordBits ? UInt64.max : ((1 << bits) - 1) << place
      words[Int(sector / Self.wordBits)].bitwiseOr(mask, ordering: .releasing)
      sector += bits
    }
  }
}

// MARK: Saved form

extension DiskChanges {
  /// All sectors that are not the image's.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1

    struct Piece: Codable, Sendable, Equatable {
      var sector: UInt64
      var bytes: [UInt8]
    }

    var sectorCount: UInt64
    var pieces: [Piece]
  }

  /// While nobody writes to the disk.
  /// - Throws: `DeviceFailure` when the host does not give back what it holds.
  public func save() throws(DeviceFailure) -> Saved {
    let sectorCount = map.withLock { $0?.sectorCount } ?? 0
    var pieces: [Saved.Piece] = []
    var sector: UInt64 = 0
    while sector < sectorCount {
      let limit = min(sectorCount - sector, UInt64(Self.pieceLimit / DiskImage.sectorSize))
      let (count, isChanged) = run(from: sector, limit: limit)
      if isChanged {
        var bytes = [UInt8](repeating: 0, count: Int(count) * DiskImage.sectorSize)
        let error = bytes.withUnsafeMutableBytes { DiskImage.readAll(descriptor, sector, into: $0) }
        if let error { throw DeviceFailure(call: "read what has changed of a disk", error) }
        pieces.append(Saved.Piece(sector: sector, bytes: bytes))
      }
      sector += count
    }
    return Saved(sectorCount: sectorCount, pieces: pieces)
  }

  /// Replaces all changes, while nobody uses the disk.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let subject = "disk"
    let map = map.withLock { $0 }
    try restoring(
      subject, requires: saved.sectorCount == map?.sectorCount ?? 0,
      "it is one of \(saved.sectorCount) sectors, and the machine's has \(map?.sectorCount ?? 0)")
    for piece in saved.pieces {
      let count = UInt64(piece.bytes.count / DiskImage.sectorSize)
      try restoring(
        subject,
        requires: piece.bytes.count % DiskImage.sectorSize == 0 && piece.sector <= saved.sectorCount
          && count <= saved.sectorCount - piece.sector,
        "\(piece.bytes.count) bytes that were written to sector \(piece.sector) are not on it")
    }
    guard let map else { return }
    let size = off_t(map.sectorCount) * off_t(DiskImage.sectorSize)
    let isEmpty =
      ftruncate(descriptor, 0) == 0 && ftruncate(descriptor, size) == 0
      && madvise(map.words, map.byteCount, MADV_DONTNEED) == 0
    try restoring(subject, requires: isEmpty, "the host does not let go of what had changed")
    for piece in saved.pieces {
      let error = piece.bytes.withUnsafeBytes { DiskImage.writeAll(descriptor, piece.sector, from: $0) }
      try restoring(subject, requires: error == nil, "what had changed can't be written: \(error?.description ?? "")")
      note(piece.sector, count: UInt64(piece.bytes.count / DiskImage.sectorSize))
    }
  }
}
