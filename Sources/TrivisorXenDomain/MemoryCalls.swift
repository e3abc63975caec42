// Hypercalls about memory: page tables, and which frames the domain has.

import TrivisorBoot
import Glibc
import TrivisorVMM

struct MemoryCalls: HypercallSubject {
  let call: Hypercall

  /// HYPERVISOR_update_va_mapping_otherdomain: as below, with pages of a domain that is named last.
  func updateMappingOfOther() throws(XenError) {
    try checkPageOwner(arguments[layout == .bits64 ? 3 : 4])
    try updateMapping()
  }

  /// HYPERVISOR_update_va_mapping: the last-level entry for an address.
  func updateMapping() throws(XenError) {
    let value = layout == .bits64 ? arguments[1] : arguments[1] | arguments[2] << 32
    // Not what a linear page table shows: there the last table is one of a higher level.
    guard let leaf = tables.leaf(arguments[0], root: root), tables.use(leaf.table) == .table1 else { throw .invalid }
    try memory.change(leaf.table, leaf.position, to: value)
  }

  /// HYPERVISOR_mmu_update: machine address of an entry with the kind in bits 0 and 1, and its value; on all widths.
  func updatePageTables() throws(XenError) -> UInt64 {
    let (address, done) = (arguments[0], arguments[2])
    let (count, before) = try batch()
    // Whose page tables, plus one, and whose pages.
    let tableOwner = arguments[3] >> 16 & 0xffff
    guard tableOwner == 0 || tableOwner == Domain.ownNumber + 1 else { throw .noSuchProcess }
    try checkPageOwner(arguments[3])
    var finished: UInt64 = 0
    defer { report(before &+ finished, at: done) }
    while finished < count {
      let pointer = try quad(address &+ 16 &* finished)
      var value = try quad(address &+ 16 &* finished &+ 8)
      switch pointer & 7 {
      // MMU_MACHPHYS_UPDATE
      case 1:
        let frame = pointer >> 12
        guard frames.isOwned(frame), !frames.isHypervisors(frame) else { throw .invalid }
        memory.machineTable.set(frame, value)
      // The last is for page tables of other domains.
      case 0, 2, 3:
        let position = pointer >> 3 & 511
        // MMU_PT_UPDATE_PRESERVE_AD
        if pointer & 7 == 2, let old = frames.entry(pointer >> 12, position)?.pointee {
          value |= old & (PageTables.accessed | PageTables.dirty)
        }
        try memory.changeOrStore(pointer >> 12, position, to: value)
      default: throw .notImplemented
      }
      finished += 1
    }
    return goOn(entrySize: 16, after: count)
  }

  /// Set in the count of a call that goes on with a batch.
  private static let goesOn: UInt64 = 1 << 31

  /// How many entries of a batch are done now, and how many of it have been done before: a long one is executed again, so
  /// that others have their turn and the processor can be stopped.
  private func batch() throws(XenError) -> (count: UInt64, before: UInt64) {
    let said = arguments[1] & 0xffff_ffff
    let total = said & ~Self.goesOn
    let done = arguments[2]
    let before = said == total || done == 0 ? 0 : UInt64((try? half(done)) ?? 0)
    return (min(total, Hypercall.batchLimit), before)
  }

  /// The result of a batch; where there is more of it, the call goes on with the rest.
  private func goOn(entrySize: UInt64, after count: UInt64) -> UInt64 {
    let total = arguments[1] & 0xffff_ffff & ~Self.goesOn
    if total > count {
      var rest = arguments
      (rest[0], rest[1]) = (arguments[0] &+ entrySize &* count, (total - count) | Self.goesOn)
      call.goOn(with: rest)
    }
    return 0
  }

  /// HYPERVISOR_mmuext_op: command and two arguments.
  func extendedPaging() throws(XenError) -> UInt64 {
    let (address, done) = (arguments[0], arguments[2])
    let (count, before) = try batch()
    try checkPageOwner(arguments[3])
    let size: UInt64 = layout == .bits64 ? 24 : 12
    var finished: UInt64 = 0
    defer { report(before &+ finished, at: done) }
    while finished < count {
      let entry = address &+ size &* finished
      let operation = try half(entry)
      let argument = try long(entry &+ layout.wordSize)
      let second = try long(entry &+ 2 &* layout.wordSize)
      try extendedPaging(operation, argument, second)
      finished += 1
    }
    return goOn(entrySize: size, after: count)
  }

  /// Whose pages a batch is about: this domain's, which is not to be named by its number.
  private func checkPageOwner(_ domain: UInt64) throws(XenError) {
    switch UInt16(truncatingIfNeeded: domain) {
    case Domain.self16: break
    // Domain 0 is us, and gives nothing away; so do DOMID_IO and DOMID_XEN, which are no domains.
    case 0, Domain.devices16, Domain.hypervisor16: throw .notPermitted
    default: throw .noSuchProcess
    }
  }

  private func extendedPaging(
    _ operation: UInt32, _ argument: UInt64, _ second: UInt64
  ) throws(XenError) {
    switch operation {
    case 0...3:
      // Pinning a level that there is not succeeds, without effect.
      guard Int(operation) + 1 <= tables.levels else { return }
      memory.removeStaleTranslations()
      try tables.pin(argument, level: Int(operation) + 1)
    case 4: try tables.unpin(argument)
    case 5: try processor.setKernelRoot(argument)
    // Flushes: what a change made untrue went when it was made.
    case 6, 8, 10: break
    case 7, 9, 11: break
    // Caches are for domains with devices.
    case 12: throw .accessDenied
    case 13: try processor.setLocalDescriptorTable(argument, count: second)
    case 15:
      guard layout == .bits64 else { throw .notImplemented }
      guard argument != processor.userRoot else { return }
      memory.removeStaleTranslations()
      if argument != 0 { try tables.getRoot(argument) }
      if processor.userRoot != 0 { tables.put(processor.userRoot) }
      processor.userRoot = argument
    // MMUEXT_CLEAR_PAGE and COPY_PAGE: into frames that may be written.
    case 16, 17:
      guard operation == 16 || frames.isOwned(second), tables.isWritable(argument), let bytes = frames.bytes(argument)
      else { throw .invalid }
      if operation == 17, let source = frames.bytes(second) {
        memmove(bytes, source, 4096)
      } else {
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
      }
      frames.didStore(at: bytes, count: 4096)
    case 18: throw .invalid
    case 19, 20: throw .notSupported
    default: throw .notImplemented
    }
  }

  /// How far a batch came, if the guest wants to know.
  private func report(_ finished: UInt64, at address: UInt64) {
    guard address != 0 else { return }
    try? put(UInt32(truncatingIfNeeded: finished), address)
  }

  /// HYPERVISOR_memory_op.
  func memoryOperation() throws(XenError) -> UInt64 {
    let argument = arguments[1]
    let reservations = ReservationCalls(call: call)
    switch arguments[0] & 63 {
    case 0: return reservations.reserve(populating: false)
    case 1: return reservations.release()
    case 2: return frames.all.upperBound
    case 3, 4:
      let owner = try short(argument)
      guard domain.isSelf(owner) else { throw owner == 0 ? .notPermitted : .noSuchProcess }
      return UInt64(frames.ownedCount + (arguments[0] & 63 == 4 ? frames.cededCount : 0))
    case 6: return reservations.reserve(populating: true)
    // XENMEM_add_to_physmap, and in a batch: a domain whose frames are not translated has no such map.
    case 7, 23:
      let owner = try short(argument)
      guard domain.isSelf(owner) || owner == 0 else { throw .noSuchProcess }
      throw owner == 0 ? .notPermitted : .accessDenied
    case 9: try memoryMap()
    case 11: return try reservations.exchange()
    case 12:
      // Where the machine-to-physical table is, and its last frame.
      let place = MachineToPhysicalTable.place(layout)
      try putLong(place.lowerBound, argument)
      try putLong(place.upperBound, argument &+ layout.wordSize)
      try putLong(frames.all.upperBound - 1, argument &+ 2 &* layout.wordSize)
    // XENMEM_maximum_gpfn: of what the domain itself says of it in shared_info.
    case 14:
      let owner = try short(argument)
      guard domain.isSelf(owner) else { throw owner == 0 ? .notPermitted : .noSuchProcess }
      return max(1, claimedFrameCount) - 1
    // XENMEM_get_sharing_freed_pages and XENMEM_get_sharing_shared_pages: nobody shares any.
    case 18, 19: return 0
    default: throw .notImplemented
    }
    return 0
  }

  /// How many pseudo-physical frames there are by the domain's own idea (`arch.max_pfn` of shared_info).
  private var claimedFrameCount: UInt64 {
    layout == .bits64
      ? domain.sharedInfo.load(fromByteOffset: 3088, as: UInt64.self)
      : UInt64(domain.sharedInfo.load(fromByteOffset: 2316, as: UInt32.self))
  }

  /// XENMEM_memory_map: an E820 of one entry, 20 bytes.
  private func memoryMap() throws(XenError) {
    let argument = arguments[1]
    guard try half(argument) >= 1 else { return }
    let buffer = try long(argument &+ layout.wordSize)
    try put(UInt64(0), buffer)
    try put(XenMachine.domainFrameCount(memory.guest) * GuestMemory.pageSize, buffer &+ 8)
    try put(UInt32(1), buffer &+ 16)
    try put(UInt32(1), argument)
  }
}
