// Guest memory as a value, and its contents without a copy.

import Glibc
import SystemPackage

extension GuestMemory: Restorable {
  /// All contents; what is not in it is zero.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1

    /// Bytes from a guest physical address on.
    public struct Piece: Codable, Sendable, Equatable {
      /// Where they are.
      public var address: UInt64
      // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
      public var bytes: [UInt8]

      // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
      public init(address: UInt64, bytes: [UInt8]) {
        self.address = address
        self.bytes = bytes
      }
    }

    /// Of all memory, in bytes.
    public var size: UInt64
    /// Whole pages in ascending order.
    public var pieces: [Piece]

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public init(size: UInt64, pieces: [Piece]) {
      self.size = size
      self.pieces = pieces
    }
  }

  private static let subject = "guest memory"

  /// A copy of every page that is not all zeros.
  public func save() -> Saved {
    var pieces: [Saved.Piece] = []
    withContents { address, bytes in
      pieces.append(Saved.Piece(address: address.rawValue, bytes: Array(bytes)))
    }
    return Saved(size: size, pieces: pieces)
  }

  /// Replaces all contents.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      Self.subject, requires: saved.size == size, "it has \(saved.size) bytes, and the machine's has \(size)")
    for piece in saved.pieces {
      let isMemory = host(GuestPhysicalAddress(piece.address), count: UInt64(piece.bytes.count)) != nil
      try restoring(
        Self.subject, requires: isMemory,
        "\(piece.bytes.count) bytes at \(hexadecimal(piece.address)) are not within the guest's memory")
    }
    clear()
    for piece in saved.pieces {
      guard let place = host(GuestPhysicalAddress(piece.address), count: UInt64(piece.bytes.count)) else { continue }
      piece.bytes.withUnsafeBytes { bytes in
        if let source = bytes.baseAddress { place.copyMemory(from: source, byteCount: bytes.count) }
      }
    }
    for region in regions { watch.stored(at: region.host, count: Int(region.size)) }
  }

  /// Fills all of it with zeros, and gives the host back what it had given for it.
  public func clear() {
    for region in regions {
      let count = Int(region.size)
      let advice = fileDescriptor >= 0 ? Self.removeFromFile : MADV_DONTNEED
      if madvise(region.host, count, advice) != 0 { memset(region.host, 0, count) }
    }
  }

  /// Gives pages back to the host: what they held is gone, and whoever touches them finds zeros, in every mapping of them.
  /// - Parameters:
  ///   - place: where a page begins, as `host` gave it.
  ///   - count: bytes, whole pages, all of them RAM of one region.
  /// - Returns: whether the host took them; if not, they are as they were.
  public func giveBack(_ place: UnsafeMutableRawPointer, count: Int) -> Bool {
    madvise(place, count, fileDescriptor >= 0 ? Self.removeFromFile : MADV_DONTNEED) == 0
  }

  /// `MADV_REMOVE` (Linux, include/uapi/asm-generic/mman-common.h).
  private static let removeFromFile: Int32 = 9

  /// Calls `body` with each run of pages that are not all zeros, in ascending order, at most `runLimit` bytes each. The
  /// bytes are the guest's own and good for the call only.
  public func withContents<Failure: Error>(
    _ body: (GuestPhysicalAddress, UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    let touched = TouchedPages(self)
    for region in regions {
      var run: (start: Int, count: Int)?
      var offset = 0
      while offset < Int(region.size) {
        let page = region.host + offset
        let hasContents = touched.mayHold(region, offset) && !Self.isZero(page)
        if let current = run, !hasContents || current.count >= Self.runLimit {
          try body(
            GuestPhysicalAddress(region.base.rawValue + UInt64(current.start)),
            UnsafeRawBufferPointer(start: region.host + current.start, count: current.count))
          run = nil
        }
        if hasContents { run = (run?.start ?? offset, (run?.count ?? 0) + Self.page) }
        offset += Self.page
      }
      if let run {
        try body(
          GuestPhysicalAddress(region.base.rawValue + UInt64(run.start)),
          UnsafeRawBufferPointer(start: region.host + run.start, count: run.count))
      }
    }
  }

  private static let page = Int(pageSize)
  private static let runLimit = 1 << 20

  /// Equal to itself one byte on, from a zero on.
  private static func isZero(_ page: UnsafeMutableRawPointer) -> Bool {
    page.load(as: UInt8.self) == 0 && memcmp(page, page + 1, Self.page - 1) == 0
  }
}

/// Which pages of guest memory the host has given at all: looking at another would make it give one.
private struct TouchedPages {
  /// Indexed by the page's number in the host's mapping; empty where the host doesn't tell.
  private var pages: [Bool] = []
  private let base: UnsafeMutableRawPointer

  init(_ memory: GuestMemory) {
    base = memory.regions[0].host
    let count = Int(memory.size / GuestMemory.pageSize)
    if memory.fileDescriptor >= 0 { readFile(memory.fileDescriptor, count) } else { readPageMap(count) }
  }

  func mayHold(_ region: GuestMemory.Region, _ offset: Int) -> Bool {
    let number = (region.host + offset - base) / Int(GuestMemory.pageSize)
    return pages.indices.contains(number) ? pages[number] : true
  }

  /// The file's extents (lseek(2): SEEK_DATA, SEEK_HOLE).
  private mutating func readFile(_ descriptor: Int32, _ count: Int) {
    let (data, hole): (Int32, Int32) = (3, 4)
    let page = Int(GuestMemory.pageSize)
    var found = [Bool](repeating: false, count: count)
    var position = 0
    while position < count * page {
      let begin = lseek(descriptor, position, data)
      if begin < 0 {
        // ENXIO: nothing but a hole up to the end.
        if errno == ENXIO { break }
        return
      }
      let end = lseek(descriptor, begin, hole)
      guard end > begin else { return }
      for number in begin / page..<min((end + page - 1) / page, count) { found[number] = true }
      position = end
    }
    pages = found
  }

  /// Bit 63 of a page's entry: present; bit 62: swapped (Linux, Documentation/admin-guide/mm/pagemap.rst).
  private mutating func readPageMap(_ count: Int) {
    let descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var found = [Bool](repeating: false, count: count)
    var entries = [UInt64](repeating: 0, count: 4096)
    let first = Int(bitPattern: base) / Int(GuestMemory.pageSize)
    var number = 0
    while number < count {
      let wanted = min(entries.count, count - number)
      let bytes = pread(descriptor, &entries, wanted * 8, (first + number) * 8)
      guard bytes >= 8 else { return }
      for index in 0..<bytes / 8 { found[number + index] = entries[index] >> 62 != 0 }
      number += bytes / 8
    }
    pages = found
  }
}
