// Hypercalls about memory: page tables, and which frames the domain has.

import Boot
import Glibc
import Sandbox
import VMM

extension Domain {
  /// Where a 64-bit domain sees the machine-to-physical table.
  static let machineToPhysical: UInt64 = 0xffff_8000_0000_0000
  /// One entry of the machine-to-physical table; `nil` beyond it. What is no frame of the domain's has none.
  func pseudoPhysicalFrame(_ machineFrame: UInt64) -> UInt64? {
    frames.index(machineFrame).map { pseudoPhysical[$0] }
  }

  private func change(_ table: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    // What a page holds is checked when it becomes a table: nobody may write to it any more by then.
    if tables.use(table) != .table1 { removeStaleTranslations() }
    try tables.update(table: table, position: position, to: value)
  }

  /// As above, or an ordinary store where the frame is no page table.
  private func changeOrStore(_ frame: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    if tables.use(frame).level != nil { return try change(frame, position, to: value) }
    guard tables.isWritable(frame), let entry = frames.entry(frame, position) else { throw .invalid }
    entry.pointee = value
  }

  /// A store of the kernel's into a last-level page table, carried out as an update (Xen's "writable page tables").
  /// - Returns: whether it was one that could be.
  func emulateTableStore(
    _ address: UInt64, _ leaf: PageTables.Leaf, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) -> Bool {
    let table = PageTables.frame(leaf.entry)
    guard layout == .bits64, processor.mode == .kernel, address & 7 == 0, tables.use(table) == .table1,
      var instruction = GuestInstruction(instructionBytes(processor, registers)), instruction.isWide,
      instruction.opcode == 0x89 || instruction.opcode == 0xc7 || instruction.opcode == 0x87,
      instruction.readModRM(), instruction.namesMemory
    else { return false }
    let hasImmediate = instruction.opcode == 0xc7
    guard instruction.address(registers, immediateSize: hasImmediate ? 4 : 0) == address else { return false }
    let position = address >> 3 & 511
    var value = registers.general(instruction.register)
    if hasImmediate {
      guard instruction.register & 7 == 0, let immediate = instruction.immediate32() else { return false }
      value = UInt64(bitPattern: Int64(immediate))
    }
    let old = frames.entry(table, position)?.pointee ?? 0
    guard (try? change(table, position, to: value)) != nil else { return false }
    if instruction.opcode == 0x87 { registers.setGeneral(instruction.register, old) }
    registers.rip &+= UInt64(instruction.position)
    return true
  }

  /// HYPERVISOR_update_va_mapping: the last-level entry for an address.
  func updateMapping(_ context: HypercallContext) throws(XenError) {
    let a = context.arguments
    let value = layout == .bits64 ? a[1] : a[1] | a[2] << 32
    guard let leaf = tables.leaf(a[0], root: context.root) else { throw .invalid }
    try change(leaf.table, leaf.position, to: value)
  }

  /// HYPERVISOR_mmu_update: machine address of an entry with the kind in bits 0 and 1, and its value; on all widths.
  func updatePageTables(_ context: inout HypercallContext) throws(XenError) -> UInt64 {
    let (address, done) = (context.arguments[0], context.arguments[2])
    let (count, before) = try batch(context)
    // Whose page tables, plus one, and whose pages.
    let tableOwner = context.arguments[3] >> 16 & 0xffff
    guard tableOwner == 0 || tableOwner == Self.ownNumber + 1 else { throw .noSuchProcess }
    try checkPageOwner(context.arguments[3])
    var finished: UInt64 = 0
    defer { report(before &+ finished, at: done, context) }
    while finished < count {
      let pointer = try quad(address &+ 16 &* finished, context)
      var value = try quad(address &+ 16 &* finished &+ 8, context)
      switch pointer & 7 {
      // MMU_MACHPHYS_UPDATE
      case 1:
        guard let index = frames.index(pointer >> 12), frames.isOwned(pointer >> 12) else { throw .invalid }
        pseudoPhysical[index] = value
      // The last is for page tables of other domains.
      case 0, 2, 3:
        let position = pointer >> 3 & 511
        // MMU_PT_UPDATE_PRESERVE_AD
        if pointer & 7 == 2, let old = frames.entry(pointer >> 12, position)?.pointee {
          value |= old & (PageTables.accessed | PageTables.dirty)
        }
        try changeOrStore(pointer >> 12, position, to: value)
      default: throw .notImplemented
      }
      finished += 1
    }
    return goOn(1, entrySize: 16, after: count, &context)
  }

  /// Set in the count of a call that goes on with a batch.
  private static let goesOn: UInt64 = 1 << 31

  /// How many entries of a batch are done now, and how many of it have been done before: a long one is executed again, so
  /// that others have their turn and the processor can be stopped.
  private func batch(_ context: HypercallContext) throws(XenError) -> (count: UInt64, before: UInt64) {
    let said = context.arguments[1] & 0xffff_ffff
    let total = said & ~Self.goesOn
    guard !context.isInner || said <= Self.batchLimit else { throw .invalid }
    let done = context.arguments[2]
    let before = said == total || done == 0 ? 0 : UInt64((try? half(done, context)) ?? 0)
    return (min(total, Self.batchLimit), before)
  }

  /// The result of a batch; where there is more of it, the call is made again with the rest.
  private func goOn(_ number: UInt64, entrySize: UInt64, after count: UInt64, _ context: inout HypercallContext)
    -> UInt64
  {
    let total = context.arguments[1] & 0xffff_ffff & ~Self.goesOn
    guard total > count else { return 0 }
    let (address, rest) = (context.arguments[0] &+ entrySize &* count, (total - count) | Self.goesOn)
    switch layout {
    case .bits64: (context.registers.rdi, context.registers.rsi) = (address, rest)
    case .bits32: (context.registers.rbx, context.registers.rcx) = (address & 0xffff_ffff, rest)
    }
    // SYSCALL, or INT 82h.
    context.registers.rip &-= 2
    return number
  }

  /// HYPERVISOR_mmuext_op: command and two arguments.
  func extendedPaging(_ context: inout HypercallContext) throws(XenError) -> UInt64 {
    let (address, done) = (context.arguments[0], context.arguments[2])
    let (count, before) = try batch(context)
    try checkPageOwner(context.arguments[3])
    let size: UInt64 = layout == .bits64 ? 24 : 12
    var finished: UInt64 = 0
    defer { report(before &+ finished, at: done, context) }
    while finished < count {
      let entry = address &+ size &* finished
      let operation = try half(entry, context)
      let argument = try long(entry &+ layout.wordSize, context)
      let second = try long(entry &+ 2 &* layout.wordSize, context)
      try extendedPaging(operation, argument, second, context.processor)
      finished += 1
    }
    return goOn(26, entrySize: size, after: count, &context)
  }

  /// Whose pages a batch is about: this domain's, which is not to be named by its number.
  private func checkPageOwner(_ domain: UInt64) throws(XenError) {
    guard UInt16(truncatingIfNeeded: domain) == Self.self16 else { throw .noSuchProcess }
  }

  private func extendedPaging(
    _ operation: UInt32, _ argument: UInt64, _ second: UInt64, _ processor: VirtualProcessor
  ) throws(XenError) {
    switch operation {
    case 0...3:
      // Pinning a level that there is not succeeds, without effect.
      guard Int(operation) + 1 <= tables.levels else { return }
      removeStaleTranslations()
      try tables.pin(argument, level: Int(operation) + 1)
    case 4: try tables.unpin(argument)
    case 5: try setKernelRoot(argument, processor)
    // Flushes: what a change made untrue went when it was made.
    case 6, 8, 10: break
    case 7, 9, 11: break
    // Caches are for domains with devices.
    case 12: throw .accessDenied
    case 13: try setLocalDescriptorTable(argument, count: second, processor)
    case 15:
      guard layout == .bits64 else { throw .notImplemented }
      guard argument != processor.userRoot else { return }
      removeStaleTranslations()
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

  /// MMUEXT_NEW_BASEPTR.
  func setKernelRoot(_ root: UInt64, _ processor: VirtualProcessor) throws(XenError) {
    removeStaleTranslations()
    try tables.getRoot(root)
    if processor.kernelRootIsCounted { tables.put(processor.kernelRoot) }
    processor.kernelRootIsCounted = true
    processor.kernelRoot = root
  }

  /// How far a batch came, if the guest wants to know.
  private func report(_ finished: UInt64, at address: UInt64, _ context: HypercallContext) {
    guard address != 0 else { return }
    try? put(UInt32(truncatingIfNeeded: finished), address, context)
  }

  /// HYPERVISOR_memory_op.
  func memoryOperation(_ context: HypercallContext) throws(XenError) -> UInt64 {
    let argument = context.arguments[1]
    switch context.arguments[0] & 63 {
    case 0: return reserve(context, populating: false)
    case 1: return release(context)
    case 6: return reserve(context, populating: true)
    case 2: return frames.all.upperBound
    case 3:
      guard isSelf(try short(argument, context)) else { throw .noSuchProcess }
      return UInt64(frames.all.count - frames.cededCount)
    case 4:
      guard isSelf(try short(argument, context)) else { throw .noSuchProcess }
      return UInt64(frames.all.count)
    case 9: try memoryMap(context)
    case 12:
      // Where the machine-to-physical table is, and its last frame.
      let start = layout == .bits64 ? Self.machineToPhysical : 0xf580_0000
      try putLong(start, argument, context)
      try putLong(layout == .bits64 ? 0xffff_8040_0000_0000 : 0xf680_0000, argument &+ layout.wordSize, context)
      try putLong(frames.all.upperBound - 1, argument &+ 2 &* layout.wordSize, context)
    default: throw .notImplemented
    }
    return 0
  }

  /// XENMEM_memory_map: an E820 of one entry, 20 bytes.
  private func memoryMap(_ context: HypercallContext) throws(XenError) {
    let argument = context.arguments[1]
    guard try half(argument, context) >= 1 else { return }
    let buffer = try long(argument &+ layout.wordSize, context)
    try put(UInt64(0), buffer, context)
    try put(XenMachine.domainFrameCount(memory) * GuestMemory.pageSize, buffer &+ 8, context)
    try put(UInt32(1), buffer &+ 16, context)
    try put(UInt32(1), argument, context)
  }

  /// `struct xen_memory_reservation`: list, count, order, flags, domain. Only single frames are to be had.
  /// - Returns: `nil` where nothing can be done: these calls answer with what was done, not with errors.
  private func reservation(_ context: HypercallContext) -> (list: UInt64, positions: Range<UInt64>)? {
    let (argument, word) = (context.arguments[1], layout.wordSize)
    let start = context.arguments[0] >> 6
    guard let list = try? long(argument, context), let count = try? long(argument &+ word, context),
      let order = try? half(argument &+ 2 &* word, context), order == 0,
      let domain = try? short(argument &+ 2 &* word &+ 8, context), isSelf(domain), start < count
    else { return nil }
    return (list, start..<min(count, start &+ Self.batchLimit))
  }

  /// XENMEM_decrease_reservation: how many frames were given back. One that is a page table or mapped writable stays.
  private func release(_ context: HypercallContext) -> UInt64 {
    guard let (list, positions) = reservation(context) else { return context.arguments[0] >> 6 }
    for position in positions {
      guard let frame = try? long(list &+ layout.wordSize &* position, context), tables.frames.isOwned(frame),
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
  private func reserve(_ context: HypercallContext, populating: Bool) -> UInt64 {
    guard let (list, positions) = reservation(context) else { return context.arguments[0] >> 6 }
    for position in positions {
      let place = list &+ layout.wordSize &* position
      guard let wanted = populating ? try? long(place, context) : 0, let frame = tables.frames.reclaim() else {
        return position
      }
      if populating, let index = frames.index(frame) { pseudoPhysical[index] = wanted }
      guard (try? putLong(frame, place, context)) != nil else { return position }
    }
    return positions.upperBound
  }
}
