// What guest code sees: a sandboxed process whose mappings follow the guest's page tables lazily, as a TLB does.
//
// A page is mapped when guest code first touches it: the fault is answered from a walk of the guest's tables, which also
// sets the accessed and dirty bits that `mmap` knows nothing of (a clean page is mapped read-only until it is written).
// When the tables change, what was mapped is removed, and faults bring back what is still there.

import Sandbox
import SystemPackage
import VMM

/// One sandboxed process with one guest thread.
final class GuestAddressSpace: Sendable {
  let process: SandboxProcess

  init(memory: GuestMemory) throws(TechniqueFailure) {
    process = try SandboxProcess(memory: memory, threadCount: 1)
  }

  func interrupt() { process.kick(0) }

  func destroy() { process.destroy() }

  /// Makes a page reachable.
  func map(_ address: UInt64, fileOffset: UInt64, writable: Bool, executable: Bool) throws(MappingFailure) {
    var access: MappingChange.Access = [.read]
    if writable { access.insert(.write) }
    if executable { access.insert(.execute) }
    let change = MappingChange(
      address: address & ~0xfff, size: GuestMemory.pageSize, target: .init(fileOffset: fileOffset, access: access))
    do throws(MappingFailure) {
      try process.apply([change])
    } catch {
      guard case .refused(.noMemory) = error else { throw error }
      // Too many mappings for the host: all go, and those that are needed come back.
      try removeAll()
      try process.apply([change])
    }
  }

  /// Makes one page unreachable.
  func remove(_ address: UInt64) throws(MappingFailure) {
    guard address < MappingChange.addressLimit else { return }
    try process.apply([MappingChange(address: address & ~0xfff, size: GuestMemory.pageSize, target: nil)])
  }

  /// Makes everything unreachable.
  func removeAll() throws(MappingFailure) {
    try process.apply([MappingChange(address: 0, size: MappingChange.addressLimit, target: nil)])
  }
}
