import Glibc
import TrivisorVMM

/// Which pages of RAM hold code that has been translated, and the blocks made of each.
///
/// The numbers lie in one table with a word a page, which other threads may read: a device that has written to a page
/// asks whether somebody must be told.
final class CodePages: @unchecked Sendable {
  /// What is known of one page.
  final class Record {
    var blocks: [Block] = []
    /// Stores to the page that hit no block, and how many of them are too many.
    var misses = 0
    var patience = 64
  }

  private let numbers: UnsafeMutablePointer<UInt32>
  private let count: Int
  private var records: [Record] = []

  init(memory: PhysicalMemory) throws(TechniqueFailure) {
    count = Int(memory.end >> 12)
    let size = max(count, 1) * MemoryLayout<UInt32>.size
    let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let mapping, mapping != MAP_FAILED else {
      throw TechniqueFailure(call: "mmap of the table of code pages", reason: String(cString: strerror(errno)))
    }
    numbers = mapping.assumingMemoryBound(to: UInt32.self)
  }

  deinit { munmap(numbers, max(count, 1) * MemoryLayout<UInt32>.size) }

  /// Whether stores to the page must be seen.
  @inline(__always)
  func isCode(_ page: UInt64) -> Bool { page < UInt64(count) && numbers[Int(page)] & Self.active != 0 }

  /// The page's record is kept when it is code no longer, for its patience.
  private static let active: UInt32 = 1 << 31
  /// Translated code may store to the page without being seen: it is, or was, in the software TLB.
  private static let writable: UInt32 = 1 << 30
  private static let number: UInt32 = writable - 1

  func noteWritable(_ page: UInt64) {
    if page < UInt64(count) { numbers[Int(page)] |= Self.writable }
  }

  /// Whether it was noted, which is thereby forgotten.
  func takeWritable(_ page: UInt64) -> Bool {
    guard page < UInt64(count), numbers[Int(page)] & Self.writable != 0 else { return false }
    numbers[Int(page)] &= ~Self.writable
    return true
  }

  func record(_ page: UInt64) -> Record? {
    guard isCode(page) else { return nil }
    return records[Int(numbers[Int(page)] & Self.number) - 1]
  }

  /// - Returns: whether it was none.
  func mark(_ page: UInt64) -> Bool {
    guard page < UInt64(count), numbers[Int(page)] & Self.active == 0 else { return false }
    if numbers[Int(page)] & Self.number == 0 {
      records.append(Record())
      numbers[Int(page)] |= UInt32(truncatingIfNeeded: records.count)
    }
    numbers[Int(page)] |= Self.active
    return true
  }

  /// Stores to it are nobody's business any more.
  func unmark(_ page: UInt64) {
    guard page < UInt64(count) else { return }
    numbers[Int(page)] &= ~Self.active
  }

  /// All blocks are gone.
  func removeAllBlocks() {
    for record in records { record.blocks.removeAll(keepingCapacity: true) }
  }
}
