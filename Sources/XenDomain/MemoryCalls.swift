// Hypercalls about memory: page tables, and which frames the domain has.

import Boot
import Glibc
import VMM

struct MemoryCalls: HypercallSubject {
  let call: Hypercall

  /// HYPERVISOR_update_va_mapping: the last-level entry for an address.
  func updateMapping() throws(XenError) {
    let value = layout == .bits64 ? arguments[1] : arguments[1] | arguments[2] << 32
    guard let leaf = tables.leaf(arguments[0], root: root) else { throw .invalid }
    try domain.change(leaf.table, leaf.position, to: value)
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
        guard let index = frames.index(pointer >> 12), frames.isOwned(pointer >> 12) else { throw .invalid }
        domain.pseudoPhysical[index] = value
      // The last is for page tables of other domains.
      case 0, 2, 3:
        let position = pointer >> 3 & 511
        // MMU_PT_UPDATE_PRESERVE_AD
        if pointer & 7 == 2, let old = frames.entry(pointer >> 12, position)?.pointee {
          value |= old & (PageTables.accessed | PageTables.dirty)
        }
        try domain.changeOrStore(pointer >> 12, position, to: value)
      default: throw .notImplemented
      }
      finished += 1
    }
    return goOn(1, entrySize: 16, after: count)
  }

  /// Set in the count of a call that goes on with a batch.
  private static let goesOn: UInt64 = 1 << 31

  /// How many entries of a batch are done now, and how many of it have been done before: a long one is executed again, so
  /// that others have their turn and the processor can be stopped.
  private func batch() throws(XenError) -> (count: UInt64, before: UInt64) {
    let said = arguments[1] & 0xffff_ffff
    let total = said & ~Self.goesOn
    guard !call.isInner || said <= Hypercall.batchLimit else { throw .invalid }
    let done = arguments[2]
    let before = said == total || done == 0 ? 0 : UInt64((try? half(done)) ?? 0)
    return (min(total, Hypercall.batchLimit), before)
  }

  /// The result of a batch; where there is more of it, the call is made again with the rest.
  private func goOn(_ number: UInt64, entrySize: UInt64, after count: UInt64)
    -> UInt64
  {
    let total = arguments[1] & 0xffff_ffff & ~Self.goesOn
    guard total > count else { return 0 }
    let (address, rest) = (arguments[0] &+ entrySize &* count, (total - count) | Self.goesOn)
    switch layout {
    case .bits64: (processor.registers.rdi, processor.registers.rsi) = (address, rest)
    case .bits32: (processor.registers.rbx, processor.registers.rcx) = (address & 0xffff_ffff, rest)
    }
    // SYSCALL, or INT 82h.
    processor.registers.rip &-= 2
    return number
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
    return goOn(26, entrySize: size, after: count)
  }

  /// Whose pages a batch is about: this domain's, which is not to be named by its number.
  private func checkPageOwner(_ domain: UInt64) throws(XenError) {
    guard UInt16(truncatingIfNeeded: domain) == Domain.self16 else { throw .noSuchProcess }
  }

  private func extendedPaging(
    _ operation: UInt32, _ argument: UInt64, _ second: UInt64
  ) throws(XenError) {
    switch operation {
    case 0...3:
      // Pinning a level that there is not succeeds, without effect.
      guard Int(operation) + 1 <= tables.levels else { return }
      domain.removeStaleTranslations()
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
      domain.removeStaleTranslations()
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
    switch arguments[0] & 63 {
    case 0: return reserve(populating: false)
    case 1: return release()
    case 6: return reserve(populating: true)
    case 2: return frames.all.upperBound
    case 3:
      guard domain.isSelf(try short(argument)) else { throw .noSuchProcess }
      return UInt64(frames.all.count - frames.cededCount)
    case 4:
      guard domain.isSelf(try short(argument)) else { throw .noSuchProcess }
      return UInt64(frames.all.count)
    case 9: try memoryMap()
    case 12:
      // Where the machine-to-physical table is, and its last frame.
      let start = layout == .bits64 ? Domain.machineToPhysical : 0xf580_0000
      try putLong(start, argument)
      try putLong(layout == .bits64 ? 0xffff_8040_0000_0000 : 0xf680_0000, argument &+ layout.wordSize)
      try putLong(frames.all.upperBound - 1, argument &+ 2 &* layout.wordSize)
    default: throw .notImplemented
    }
    return 0
  }

  /// XENMEM_memory_map: an E820 of one entry, 20 bytes.
  private func memoryMap() throws(XenError) {
    let argument = arguments[1]
    guard try half(argument) >= 1 else { return }
    let buffer = try long(argument &+ layout.wordSize)
    try put(UInt64(0), buffer)
    try put(XenMachine.domainFrameCount(memory) * GuestMemory.pageSize, buffer &+ 8)
    try put(UInt32(1), buffer &+ 16)
    try put(UInt32(1), argument)
  }

  /// `struct xen_memory_reservation`: list, count, order, flags, domain. Only single frames are to be had.
  /// - Returns: `nil` where nothing can be done: these calls answer with what was done, not with errors.
  private func reservation() -> (list: UInt64, positions: Range<UInt64>)? {
    let (argument, word) = (arguments[1], layout.wordSize)
    let start = arguments[0] >> 6
    guard let list = try? long(argument), let count = try? long(argument &+ word),
      let order = try? half(argument &+ 2 &* word), order == 0,
      let owner = try? short(argument &+ 2 &* word &+ 8), domain.isSelf(owner), start < count
    else { return nil }
    return (list, start..<min(count, start &+ Hypercall.batchLimit))
  }

  /// XENMEM_decrease_reservation: how many frames were given back. One that is a page table or mapped writable stays.
  private func release() -> UInt64 {
    guard let (list, positions) = reservation() else { return arguments[0] >> 6 }
    for position in positions {
      guard let frame = try? long(list &+ layout.wordSize &* position), tables.frames.isOwned(frame),
        !tables.isReferenced(frame), frame != XenMachine.sharedInfoFrame(memory),
        frame != XenMachine.grantTableFrame(memory)
      else { return position }
      tables.frames.cede(frame)
      // Mappings for reading are not counted, so all go.
      tables.stale.addEverything()
    }
    return positions.upperBound
  }

  /// XENMEM_populate_physmap and XENMEM_increase_reservation: frames given back before.
  private func reserve(populating: Bool) -> UInt64 {
    guard let (list, positions) = reservation() else { return arguments[0] >> 6 }
    for position in positions {
      let place = list &+ layout.wordSize &* position
      guard let wanted = populating ? try? long(place) : 0, let frame = tables.frames.reclaim() else {
        return position
      }
      if populating, let index = frames.index(frame) { domain.pseudoPhysical[index] = wanted }
      guard (try? putLong(frame, place)) != nil else { return position }
    }
    return positions.upperBound
  }
}
