import Synchronization
import TrivisorVMM

/// Stores of a kernel's into its last-level page tables, for an executor that can carry out all of an instruction but the store:
/// each is an update, checked as one (Xen's "writable page tables").
extension Domain {
  /// Whether a store there would be one.
  public func takesTableStore(at machineAddress: UInt64) -> Bool {
    lock.withLock { _ in layout == .bits64 && tables.use(machineAddress >> 12) == .table1 }
  }

  /// With the lock held: whether two roots say the same of all addresses of the upper half.
  public func haveSameUpperHalf(_ first: UInt64, _ second: UInt64) -> Bool {
    guard tables.levels == 4, let one = frames.entry(first, 256), let other = frames.entry(second, 256),
      tables.use(first).level == 4, tables.use(second).level == 4
    else { return false }
    // Accessed bits are the processor's.
    return (0..<256).allSatisfy { (one[$0] ^ other[$0]) & ~PageTables.accessed == 0 }
  }

  /// What is there, from that byte of the entry on.
  public func readTable(at machineAddress: UInt64) -> UInt64 {
    lock.withLock { _ in
      let entry = frames.entry(machineAddress >> 12, machineAddress >> 3 & 511)?.pointee ?? 0
      return entry >> (machineAddress & 7 * 8)
    }
  }

  /// Makes a store of so many bytes, all of one entry.
  /// - Returns: whether the entry may be so; else it is as it was.
  public func storeInTable(_ value: UInt64, size: Int, at machineAddress: UInt64) -> Bool {
    lock.withLock { _ in
      let (frame, position) = (machineAddress >> 12, machineAddress >> 3 & 511)
      let shift = machineAddress & 7 * 8
      guard tables.use(frame) == .table1, size > 0, shift + UInt64(size) * 8 <= 64,
        let entry = frames.entry(frame, position)
      else { return false }
      let mask = (UInt64.max >> UInt64(64 - 8 * size)) << shift
      guard (try? change(frame, position, to: entry.pointee & ~mask | value << shift & mask)) != nil else {
        return false
      }
      removeStaleTranslations()
      processors.first?.count(.tableStore)
      return true
    }
  }
}
