import Synchronization
import TrivisorVMM

/// Stores of a kernel's into its last-level page tables, for an executor that can carry out all of an instruction but the store:
/// each is an update, checked as one (Xen's "writable page tables").
extension Domain {
  /// Whether a store there would be one.
  public func takesTableStore(at machineAddress: UInt64) -> Bool {
    lock.withLock { _ in layout == .bits64 && memory.tables.use(machineAddress >> 12) == .table1 }
  }

  /// With the lock held: whether two roots say the same of all addresses of the upper half.
  public func haveSameUpperHalf(_ first: UInt64, _ second: UInt64) -> Bool {
    memory.haveSameUpperHalf(first, second)
  }

  /// What is there, from that byte of the entry on.
  public func readTable(at machineAddress: UInt64) -> UInt64 {
    lock.withLock { _ in
      let entry = memory.frames.entry(machineAddress >> 12, machineAddress >> 3 & 511)?.pointee ?? 0
      return entry >> (machineAddress & 7 * 8)
    }
  }

  /// Makes a store of so many bytes, all of one entry.
  /// - Returns: whether the entry may be so; else it is as it was.
  public func storeInTable(_ value: UInt64, size: Int, at machineAddress: UInt64) -> Bool {
    lock.withLock { _ in
      guard (try? memory.storeInTable(value, size: size, at: machineAddress)) != nil else { return false }
      processors.first?.count(.tableStore)
      return true
    }
  }
}
