import Glibc
import TrivisorVMM

/// Which pages of RAM hold code that has been translated, and the blocks made of each.
///
/// They lie in one table with a word a page, which other threads may read: a device that has written to a page asks whether
/// somebody must be told.
final class CodePages: @unchecked Sendable {
  /// What is known of one page.
  final class Record {
    var blocks: [Block] = []
    /// Stores to the page that hit no block, and how many of them are too many.
    var misses = 0
    var patience = 64
  }

  private let words: UnsafeMutablePointer<UInt64>
  private let count: Int
  private var records: [Record] = []

  init(memory: PhysicalMemory) throws(TechniqueFailure) {
    count = Int(memory.end >> 12)
    let size = max(count, 1) * MemoryLayout<UInt64>.size
    let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let mapping, mapping != MAP_FAILED else {
      throw TechniqueFailure(call: "mmap of the table of code pages", reason: String(cString: strerror(errno)))
    }
    words = mapping.assumingMemoryBound(to: UInt64.self)
  }

  deinit { munmap(words, max(count, 1) * MemoryLayout<UInt64>.size) }

  /// Whether stores to the page must be seen.
  @inline(__always)
  func isCode(_ page: UInt64) -> Bool { page < UInt64(count) && words[Int(page)] & Self.active != 0 }

  /// The page's record is kept when it is code no longer, for its patience.
  private static let active: UInt64 = 1 << 63
  /// Where a bit for each processor begins whose translated code may store to the page without being seen: it is, or was, in its
  /// software TLB.
  private static let writers: UInt64 = 32
  private static let allWriters: UInt64 = ((1 << UInt64(ProcessorRendezvous.processorLimit)) - 1) << writers
  /// The record's, and 0 where there is none.
  private static let number: UInt64 = (1 << writers) - 1

  /// - Parameter processor: its index.
  func noteWritable(_ page: UInt64, by processor: Int) {
    if page < UInt64(count) { words[Int(page)] |= 1 << (Self.writers + UInt64(processor)) }
  }

  /// A bit for each processor for which it was noted.
  func writers(_ page: UInt64) -> UInt64 {
    page < UInt64(count) ? (words[Int(page)] & Self.allWriters) >> Self.writers : 0
  }

  /// The same; it is thereby forgotten.
  func takeWriters(_ page: UInt64) -> UInt64 {
    guard page < UInt64(count) else { return 0 }
    defer { words[Int(page)] &= ~Self.allWriters }
    return writers(page)
  }

  func record(_ page: UInt64) -> Record? {
    guard isCode(page) else { return nil }
    return records[Int(words[Int(page)] & Self.number) - 1]
  }

  /// - Returns: whether it was none.
  func mark(_ page: UInt64) -> Bool {
    guard page < UInt64(count), words[Int(page)] & Self.active == 0 else { return false }
    if words[Int(page)] & Self.number == 0 {
      records.append(Record())
      words[Int(page)] |= UInt64(records.count)
    }
    words[Int(page)] |= Self.active
    return true
  }

  /// Stores to it are nobody's business any more.
  func unmark(_ page: UInt64) {
    guard page < UInt64(count) else { return }
    words[Int(page)] &= ~Self.active
  }

  /// All blocks are gone.
  func removeAllBlocks() {
    for record in records { record.blocks.removeAll(keepingCapacity: true) }
  }
}
