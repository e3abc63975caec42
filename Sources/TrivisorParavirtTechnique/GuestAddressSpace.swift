// What guest code sees: a sandboxed process whose mappings follow one root of the guest's page tables lazily, as a TLB
// does.
//
// A page is mapped when guest code first touches it: the fault is answered from a walk of the guest's tables, which also
// sets the accessed and dirty bits that `mmap` knows nothing of (a clean page is mapped read-only until it is written).
// When the tables change, what was mapped is removed, and faults bring back what is still there.

import TrivisorSandbox
import SystemPackage
import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// One sandboxed process with a guest thread for each virtual processor.
final class GuestAddressSpace: @unchecked Sendable {
  // Unchecked: each of `threads` is used by the thread of its virtual processor alone.

  /// Where address 0 of a 32-bit domain is in the process, which the host gives to everybody.
  static let base32: UInt32 = 0x1000_0000

  let process: SandboxProcess
  private let is32Bit: Bool
  /// By virtual processor, from its first use on. Allocated once, so that using one of them does not touch the others.
  private let threads: UnsafeMutablePointer<SandboxThread?>
  private let mapped = Mutex(Mapped())

  private struct Mapped {
    /// Pages of the process that are mapped.
    var pages: Set<UInt64> = []
    /// Of the call in work; kept, so that it allocates nothing.
    var changes: [MappingChange] = []
  }

  /// - Parameter window: what its code can read at an address of the upper half.
  init(
    memory: GuestMemory, threadCount: Int, is32Bit: Bool, window: UpperWindow? = nil
  ) throws(TechniqueFailure) {
    self.is32Bit = is32Bit
    process = try SandboxProcess(
      memory: memory, threadCount: threadCount, segmentBase: is32Bit ? Self.base32 : nil, window: window)
    threads = .allocate(capacity: threadCount)
    threads.initialize(repeating: nil, count: threadCount)
  }

  deinit {
    threads.deinitialize(count: process.threadCount)
    threads.deallocate()
  }

  /// On a virtual processor's own thread: its guest thread, put on the processor of the host that `hostProcessor` names
  /// when it is used first.
  func thread(_ number: Int, hostProcessor: Int32) throws(SandboxEnded) -> SandboxThread {
    guard (0..<process.threadCount).contains(number) else { throw SandboxEnded("there is no guest thread \(number)") }
    if let thread = threads[number] { return thread }
    // Both sides on one processor of the host: waking another one costs many times more.
    process.pinWithCaller(number, processor: hostProcessor)
    let thread = try SandboxThread(process, index: number)
    if is32Bit { thread.setDataSelector(SandboxProcess.dataSelector32) }
    threads[number] = thread
    return thread
  }

  /// Makes guest code of a virtual processor come back.
  func interrupt(_ number: Int) {
    guard !process.kick(number) else { return }
    process.destroy(SandboxEnded("the host's kernel has ended the thread that ran guest code (see dmesg)"))
  }

  func destroy() { process.destroy() }

  /// Where the process has a guest's address, and the other way round.
  func hostAddress(_ address: UInt64) -> UInt64 {
    is32Bit ? UInt64(UInt32(truncatingIfNeeded: address) &+ Self.base32) : address
  }

  func guestAddress(_ address: UInt64) -> UInt64 {
    is32Bit ? UInt64(UInt32(truncatingIfNeeded: address) &- Self.base32) : address
  }

  // Loops here are written out: a debug build's iterators allocate, and the test that counts runs in one.

  /// Makes pages reachable, all with the same rights.
  func map(_ runs: [PageRun], writable: Bool, executable: Bool) throws(MappingFailure) {
    let access = MappingChange.Access(writable: writable, executable: executable)
    try mapped.withLock { mapped throws(MappingFailure) in
      mapped.changes.removeAll(keepingCapacity: true)
      var position = 0
      while position < runs.count {
        let run = runs[position]
        mapped.changes.append(
          MappingChange(
            address: hostAddress(run.address & ~0xfff), size: run.count * GuestMemory.pageSize,
            target: .init(fileOffset: run.fileOffset, access: access)))
        position += 1
      }
      do throws(MappingFailure) {
        try process.apply(mapped.changes)
      } catch {
        guard case .refused(.noMemory) = error else { throw error }
        // Too many mappings for the host: all go, and those that are needed come back.
        try removeAll(&mapped)
        try process.apply(mapped.changes)
      }
      position = 0
      while position < mapped.changes.count {
        let change = mapped.changes[position]
        var page = change.address
        while page < change.address + change.size {
          mapped.pages.insert(page)
          page += GuestMemory.pageSize
        }
        position += 1
      }
    }
  }

  /// More pages than this in one range are found among what is mapped, and not one by one.
  private static let manyPages: UInt64 = 64

  /// Makes what is stale unreachable; returns when no thread can reach it any more.
  func remove(_ stale: StaleTranslations) throws(MappingFailure) {
    try mapped.withLock { mapped throws(MappingFailure) in
      if stale.isEverything { return try removeAll(&mapped) }
      mapped.changes.removeAll(keepingCapacity: true)
      var position = 0
      while position < stale.ranges.count {
        gather(stale.ranges[position], &mapped)
        position += 1
      }
      guard !mapped.changes.isEmpty else { return }
      do throws(MappingFailure) {
        try process.apply(mapped.changes)
      } catch {
        // Cutting a mapping in two can be one too many for the host; removing all never is.
        guard case .refused = error else { throw error }
        try removeAll(&mapped)
      }
    }
  }

  /// What of a range is mapped goes into the changes.
  private func gather(_ range: Range<UInt64>, _ mapped: inout Mapped) {
    if range.upperBound - range.lowerBound <= Self.manyPages * GuestMemory.pageSize {
      var page = range.lowerBound
      while page < range.upperBound {
        let start = hostAddress(page)
        page += GuestMemory.pageSize
        guard mapped.pages.remove(start) != nil else { continue }
        var change = MappingChange(address: start, size: GuestMemory.pageSize, target: nil)
        let count = mapped.changes.count
        if count > 0, mapped.changes[count - 1].address + mapped.changes[count - 1].size == start {
          let before = mapped.changes.removeLast()
          change.address = before.address
          change.size += before.size
        }
        mapped.changes.append(change)
      }
    } else {
      for page in mapped.pages where range.contains(guestAddress(page)) {
        mapped.pages.remove(page)
        mapped.changes.append(MappingChange(address: page, size: GuestMemory.pageSize, target: nil))
      }
    }
  }

  /// Makes everything unreachable.
  func removeAll() throws(MappingFailure) {
    try mapped.withLock { mapped throws(MappingFailure) in try removeAll(&mapped) }
  }

  private static let everything = [MappingChange(address: 0, size: MappingChange.addressLimit, target: nil)]

  private func removeAll(_ mapped: inout Mapped) throws(MappingFailure) {
    mapped.pages.removeAll(keepingCapacity: true)
    try process.apply(Self.everything)
  }
}
