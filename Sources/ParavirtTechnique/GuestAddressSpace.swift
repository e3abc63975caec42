// What guest code sees: a sandboxed process whose mappings follow one root of the guest's page tables lazily, as a TLB
// does.
//
// A page is mapped when guest code first touches it: the fault is answered from a walk of the guest's tables, which also
// sets the accessed and dirty bits that `mmap` knows nothing of (a clean page is mapped read-only until it is written).
// When the tables change, what was mapped is removed, and faults bring back what is still there.

import Sandbox
import SystemPackage
import Synchronization
import VMM

/// One sandboxed process with a guest thread for each virtual processor.
final class GuestAddressSpace: @unchecked Sendable {
  // Unchecked: each of `threads` is used by the thread of its virtual processor alone.

  /// Where address 0 of a 32-bit domain is in the process, which the host gives to everybody.
  static let base32: UInt32 = 0x1000_0000

  let process: SandboxProcess
  private let is32Bit: Bool
  /// By virtual processor, from its first use on. Allocated once, so that using one of them does not touch the others.
  private let threads: UnsafeMutablePointer<SandboxThread?>
  /// Pages of the process that are mapped.
  private let mapped = Mutex<Set<UInt64>>([])

  init(memory: GuestMemory, threadCount: Int, is32Bit: Bool) throws(TechniqueFailure) {
    self.is32Bit = is32Bit
    process = try SandboxProcess(
      memory: memory, threadCount: threadCount, segmentBase: is32Bit ? Self.base32 : nil)
    threads = .allocate(capacity: threadCount)
    threads.initialize(repeating: nil, count: threadCount)
  }

  deinit {
    threads.deinitialize(count: process.threadCount)
    threads.deallocate()
  }

  /// On a virtual processor's own thread: its guest thread, put on the processor of the host that `hostProcessor` names
  /// when it is used first.
  func thread(_ number: Int, hostProcessor: (Int) -> Int32) throws(SandboxEnded) -> SandboxThread {
    guard (0..<process.threadCount).contains(number) else { throw SandboxEnded("there is no guest thread \(number)") }
    if let thread = threads[number] { return thread }
    // Both sides on one processor of the host: waking another one costs many times more.
    process.pinWithCaller(number, processor: hostProcessor(number))
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

  /// Pages that lie one behind the other, both for the guest and in memory.
  struct Run {
    var address, count, fileOffset: UInt64
  }

  /// Makes pages reachable, all with the same rights.
  func map(_ runs: [Run], writable: Bool, executable: Bool) throws(MappingFailure) {
    var access: MappingChange.Access = [.read]
    if writable { access.insert(.write) }
    if executable { access.insert(.execute) }
    let changes = runs.map { run in
      MappingChange(
        address: hostAddress(run.address & ~0xfff), size: run.count * GuestMemory.pageSize,
        target: .init(fileOffset: run.fileOffset, access: access))
    }
    do throws(MappingFailure) {
      try process.apply(changes)
    } catch {
      guard case .refused(.noMemory) = error else { throw error }
      // Too many mappings for the host: all go, and those that are needed come back.
      try removeAll()
      try process.apply(changes)
    }
    mapped.withLock { mapped in
      for change in changes {
        for page in 0..<(change.size / GuestMemory.pageSize) {
          mapped.insert(change.address + page * GuestMemory.pageSize)
        }
      }
    }
  }

  /// Makes what is stale unreachable; returns when no thread can reach it any more.
  func remove(_ stale: StaleTranslations) throws(MappingFailure) {
    if stale.isEverything { return try removeAll() }
    var changes: [MappingChange] = []
    mapped.withLock { mapped in
      for range in stale.ranges {
        if range.upperBound - range.lowerBound <= 64 * GuestMemory.pageSize {
          for page in stride(from: range.lowerBound, to: range.upperBound, by: Int(GuestMemory.pageSize)) {
            let start = hostAddress(page)
            guard mapped.remove(start) != nil else { continue }
            if let last = changes.last, last.address + last.size == start {
              changes[changes.count - 1].size += GuestMemory.pageSize
            } else {
              changes.append(MappingChange(address: start, size: GuestMemory.pageSize, target: nil))
            }
          }
        } else {
          for page in mapped where range.contains(guestAddress(page)) {
            mapped.remove(page)
            changes.append(MappingChange(address: page, size: GuestMemory.pageSize, target: nil))
          }
        }
      }
    }
    guard !changes.isEmpty else { return }
    do throws(MappingFailure) {
      try process.apply(changes)
    } catch {
      // Cutting a mapping in two can be one too many for the host; removing all never is.
      guard case .refused = error else { throw error }
      try removeAll()
    }
  }

  /// Makes everything unreachable.
  func removeAll() throws(MappingFailure) {
    mapped.withLock { $0.removeAll() }
    try process.apply([MappingChange(address: 0, size: MappingChange.addressLimit, target: nil)])
  }
}
