import TrivisorBoot
import TrivisorVMM
import TrivisorX86

/// How page faults of a domain's code are answered: from its tables, or by its kernel.
struct PageFaults {
  let processor: DomainProcessor
  let executor: any DomainExecutor

  private var domain: Domain { processor.domain }

  /// How many pages around one are mapped with it: those that follow it in memory, and others.
  private static let spread: UInt64 = 256
  private static let neighbours: UInt64 = 63
  /// Entries of a page table.
  private static let entryCount: UInt64 = 512

  /// Of the executor's error code only the bits for stores, fetches and protection keys say what guest code did.
  /// - Returns: whether it was a load from the machine-to-physical table, which is done.
  func answer(_ address: UInt64, _ code: PageFaultError) throws(MappingRefusal) -> Bool {
    let isWrite = code.contains(.write)
    let isFetch = code.contains(.fetch)
    if !isWrite, !isFetch, !code.contains(.protectionKey),
      InstructionEmulation(processor: processor).emulateTableLoad(address)
    {
      processor.count(.tableLoad)
      return true
    }
    try answerOthers(address, code)
    return false
  }

  private func answerOthers(_ address: UInt64, _ code: PageFaultError) throws(MappingRefusal) {
    let isWrite = code.contains(.write)
    let isFetch = code.contains(.fetch)
    // Not a mapping's affair: PKRU forbade it, which denies nothing any more.
    let isByKey = code.contains(.protectionKey)
    let leaf = domain.memory.tables.leaf(address, root: processor.root)
    let isPresent = leaf?.isPresent ?? false
    if let leaf, isPresent, !isByKey, !isWrite || leaf.isWritable, !isFetch || leaf.isExecutable,
      leaf.isUsers || !processor.view.isUsers, let entry = domain.memory.frames.entry(leaf.table, leaf.position)
    {
      guard executor.canReach(address) else {
        return domain.end(
          .crashed("the guest uses address \(hexadecimal(address)), which a process of the host can't have"))
      }
      let bits = PageTables.accessed | (isWrite ? PageTables.dirty : 0)
      if entry.pointee & bits != bits { entry.pointee |= bits }
      processor.count(.pageMapped)
      return try map(address, leaf)
    }
    if !isWrite, !isFetch, !isByKey, isInMachineTable(address) { return try mapMachineTable() }
    let emulation = InstructionEmulation(processor: processor)
    if isWrite, isPresent, !isByKey, let leaf, emulation.emulateTableStore(address, leaf) {
      return processor.count(.tableStore)
    }
    var told: PageFaultError = []
    if isPresent { told.insert(.present) }
    if isWrite { told.insert(.write) }
    if processor.mode == .user { told.insert(.user) }
    if isFetch { told.insert(.fetch) }
    if isByKey, isPresent { told.insert(.protectionKey) }
    processor.trapCounts.add(
      exception: ExceptionVector.pageFault.rawValue, errorCode: told, isUser: processor.mode == .user)
    processor.delivery.raisePageFault(address, errorCode: UInt64(told.rawValue))
  }

  /// Whether it is where a 32-bit kernel reads the machine-to-physical table; user code may not.
  private func isInMachineTable(_ address: UInt64) -> Bool {
    guard domain.layout == .bits32, !processor.view.isUsers, address >= MachineToPhysicalTable.start32 else {
      return false
    }
    return domain.machineTable.addresses.contains(address)
  }

  /// All of it: guests read it in their first loops.
  private func mapMachineTable() throws(MappingRefusal) {
    let (addresses, frame) = domain.machineTable
    guard let offset = domain.memory.frames.fileOffset(frame) else { return }
    let count = (UInt64(addresses.count) + GuestMemory.pageSize - 1) / GuestMemory.pageSize
    processor.count(.pageMapped)
    processor.runs.removeAll(keepingCapacity: true)
    processor.runs.append(PageRun(address: addresses.lowerBound, count: count, fileOffset: offset))
    do throws(MappingRefusal) {
      try executor.map(processor.runs, writable: false, executable: false)
    } catch {
      guard case .refused(let reason) = error else { throw error }
      domain.end(.crashed("the host can't map the machine-to-physical table (\(reason))"))
    }
  }

  /// Maps a page, and with it those of the same table that lie beside it in memory, too, or come next, and have been used
  /// in the same way before: their accessed and dirty bits say already what mapping them would hide.
  private func map(_ address: UInt64, _ leaf: PageTables.Leaf) throws(MappingRefusal) {
    guard let first = domain.memory.frames.entry(leaf.table, leaf.position) else { return }
    let entry = first.pointee
    let frame = PageTables.frame(entry)
    let isWritable = leaf.isWritable && entry & PageTables.dirty != 0
    let rights =
      PageTables.present | PageTables.accessed | PageTables.writable | PageTables.noExecute | PageTables.user
    /// The frame of an entry that can be mapped with this one.
    func alike(_ position: UInt64) -> UInt64? {
      guard let other = domain.memory.frames.entry(leaf.table, position)?.pointee else { return nil }
      let hasDirty = !isWritable || other & PageTables.dirty != 0
      return other & rights == entry & rights && hasDirty ? PageTables.frame(other) : nil
    }
    var (low, high) = (leaf.position, leaf.position)
    // Where a debugger watches pages, each is asked for.
    let mayHaveOthers = domain.watcherCount == 0 && (isWritable || entry & PageTables.writable == 0)
    if mayHaveOthers {
      while high < Self.entryCount - 1, high - leaf.position < Self.spread,
        alike(high + 1) == frame &+ (high + 1 - leaf.position)
      {
        high += 1
      }
      while low > 0, leaf.position - low < Self.spread, alike(low - 1) == frame &- (leaf.position - (low - 1)) {
        low -= 1
      }
    }
    guard let offset = domain.memory.frames.fileOffset(frame &- (leaf.position - low)),
      domain.memory.frames.isOwned(frame)
    else {
      return
    }
    let start = (address & ~0xfff) &- leaf.position << 12
    processor.runs.removeAll(keepingCapacity: true)
    processor.runs.append(PageRun(address: start &+ low << 12, count: high - low + 1, fileOffset: offset))
    var pageCount = high - low + 1
    var position = high + 1
    while mayHaveOthers, position < min(Self.entryCount, high + 1 + Self.neighbours), let other = alike(position),
      let offset = domain.memory.frames.fileOffset(other), domain.memory.frames.isOwned(other),
      executor.canReach(start &+ position << 12)
    {
      processor.runs.append(PageRun(address: start &+ position << 12, count: 1, fileOffset: offset), joining: true)
      pageCount += 1
      position += 1
    }
    domain.counts.add(mappings: UInt64(processor.runs.count), pages: pageCount)
    do throws(MappingRefusal) {
      try executor.map(processor.runs, writable: isWritable, executable: leaf.isExecutable)
    } catch {
      guard case .refused(let reason) = error else { throw error }
      let remedy =
        address < Self.unprivilegedStart ? ": only root may have memory at such addresses (vm.mmap_min_addr)" : ""
      domain.end(
        .crashed("the host can't map the guest's page at \(hexadecimal(address & ~0xfff)) (\(reason))\(remedy)"))
    }
  }

  /// Below it hosts give memory to nobody but root.
  private static let unprivilegedStart: UInt64 = 0x1_0000
}

extension [PageRun] {
  /// Appends a run, or lengthens the last one by it where it goes on there.
  fileprivate mutating func append(_ run: PageRun, joining: Bool) {
    guard count > 0 else { return append(run) }
    var last = self[count - 1]
    guard last.fileOffset + last.count << 12 == run.fileOffset, last.address + last.count << 12 == run.address else {
      return append(run)
    }
    removeLast()
    last.count += run.count
    append(last)
  }
}
