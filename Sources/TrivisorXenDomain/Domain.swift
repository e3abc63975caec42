// A Xen domain as its hypervisor sees it: memory, page tables, event channels, console, store, and what it has registered.
//
// Nothing here knows how guest code is executed. Hypercalls take and change registers; what of the guest's address space
// is no longer true after a change goes to a `TranslationKeeper`, whoever that is.
//
//     Domain                what all processors share; memory as the guest sees it
//     DomainProcessor       one of them: registers, what its kernel has registered; into the kernel and back (iret)
//     Hypercall, …Calls     hypercalls by subject
//     InstructionEmulation  what a guest kernel executes all the same
//     DomainRunLoop         all of it, around an executor
//
// One lock for all of it: hypercalls of several processors take turns. Guest code runs without it.

import TrivisorBoot
import Glibc
import Synchronization
import TrivisorVMM

/// The state of one domain.
public final class Domain: @unchecked Sendable {
  // Unchecked: everything is used with `lock` held, but for what the guest shares, which is atomic.

  /// How a domain ends.
  enum Ending: Codable, Sendable, Equatable {
    case shutdown(reason: UInt32)
    case crashed(String)
  }

  let lock = Mutex(())
  let memory: GuestMemory
  /// By the width of its words.
  public let layout: SharedLayout
  var tables: PageTables
  private(set) var processors: [DomainProcessor] = []
  /// What whoever executes its code honours; nothing, natively.
  public var abilities: ExecutorAbilities = []
  /// What its processors are like.
  public var identification = DomainIdentification.host
  /// Whoever is to be told what of the domain's page tables is no longer true.
  public weak var translations: (any TranslationKeeper)?
  var ending: Ending?
  var store: XenStore
  let rings: Rings
  /// The hypervisor's end of it.
  public let console: XenConsole
  var channels = EventChannels()
  /// Once the domain has asked for that interface of event channels.
  var eventQueues: EventQueues?
  let time: SystemTime
  /// INT3 for a debugger from outside.
  let planted: PlantedBreakpoints
  /// Processors of which a debugger watches memory: their pages are not mapped.
  var watcherCount = 0
  /// The machine-to-physical table, by frame from `XenMachine.firstFrame` on.
  private(set) var pseudoPhysical: [UInt64]
  var grants = GrantTable()
  /// Our ends of its disks.
  var disks: [BlockBackEnd] = []
  /// Our end of its second console, if it has one.
  var secondConsole: ConsoleBackEnd?
  /// PHYSDEVOP_pirq_eoi_gmfn: the frame, which stays writable; nothing is ever written to it.
  var endOfInterruptPage: UInt64?
  /// When the domain ends unless it says before then that it is alive (SCHEDOP_watchdog).
  var watchdogs = Watchdogs()
  var speaker = SpeakerTimer()
  /// VM_ASSIST: bits by type.
  var assists: UInt64 = 0
  let sharedInfo: UnsafeMutableRawPointer
  /// How often each hypercall was made, and how often each was refused as not implemented.
  var hypercallCounts = [UInt64](repeating: 0, count: 64)
  var notImplementedCounts: [String: UInt64] = [:]
  /// What the guest asked for and natively run code can't have, by what it is.
  private(set) var notHonouredCounts: [NotHonoured: UInt64] = [:]
  var pageFaultMappings: UInt64 = 0
  var pagesMapped: UInt64 = 0

  var frames: MachineFrames { tables.frames }

  /// The domain that the domain builder left in memory.
  /// - Parameters:
  ///   - console: gets what the domain prints.
  ///   - doorbells: one for each processor.
  ///   - disks: what is on them.
  ///   - secondConsole: what is at the other end of a console beside the first, if there is to be one.
  /// - Returns: `nil` when the image has spoilt what the builder made.
  public convenience init?(
    memory: GuestMemory, console: any SerialSink, doorbells: [any DomainDoorbell], disks: [any BlockStorage] = [],
    secondConsole: SecondConsole? = nil, start: XenDomainStart
  ) {
    let layout: SharedLayout = start.is64Bit ? .bits64 : .bits32
    var tables = Self.tables(memory, layout)
    let root = start.rootFrame
    let isWide = layout == .bits64
    guard (try? tables.pin(root, level: tables.levels)) != nil,
      let leaf = tables.leaf(start.startInfo, root: root), let page = tables.frames.bytes(PageTables.frame(leaf.entry))
    else { return nil }
    let rings = Rings(
      store: Self.word(page, isWide ? 56 : 44, isWide), console: Self.word(page, isWide ? 72 : 52, isWide))
    do throws(XenError) {
      try rings.keepWritable(&tables)
      try self.init(memory, layout, tables, rings, console: console, doorbells: doorbells, time: SystemTime())
    } catch { return nil }
    for processor in processors {
      // Upcalls are masked until the guest is ready for them.
      processor.info.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
    }
    processors[0].kernelRoot = root
    processors[0].isInitialised = true
    processors[0].isUp = true
    processors[0].begin(start)
    channels.bind(XenMachine.storePort, .store)
    channels.bind(XenMachine.consolePort, .console)
    publishStore()
    self.disks = disks.prefix(BlockBackEnd.limit).enumerated().map { BlockBackEnd($1, index: $0) }
    for disk in self.disks { disk.publish(in: &store, domain: Int(Self.ownNumber)) }
    self.secondConsole = secondConsole.map { ConsoleBackEnd($0) }
    self.secondConsole?.publish(in: &store, domain: Int(Self.ownNumber))
    time.writeWallClock(sharedInfo, offset: layout.wallClock)
    for processor in processors { time.update(processor.info) }
    processors[0].runstate.change(to: .running, at: monotonicNanoseconds())
  }

  /// The frames of the rings that the domain builder made.
  struct Rings: Codable, Sendable, Equatable {
    var store, console: UInt64

    /// What the hypervisor writes to never becomes a page table.
    func keepWritable(_ tables: inout PageTables) throws(XenError) {
      try tables.getWritable(store)
      try tables.getWritable(console)
    }
  }

  /// Nothing is referred to yet.
  /// - Parameter grants: tell which frames of the hypervisor's the domain may map.
  static func tables(
    _ memory: GuestMemory, _ layout: SharedLayout, grants: GrantTable = GrantTable()
  ) -> PageTables {
    var frames = MachineFrames(memory)
    frames.lend(lentFrames(memory, grants))
    return PageTables(frames, levels: layout == .bits64 ? 4 : 3)
  }

  /// What a new domain and a restored one have in common.
  /// - Throws: `XenError` where the rings are not in the domain's memory.
  init(
    _ memory: GuestMemory, _ layout: SharedLayout, _ tables: PageTables, _ rings: Rings, console: any SerialSink,
    doorbells: [any DomainDoorbell], time: SystemTime
  ) throws(XenError) {
    let frames = tables.frames
    guard let sharedInfo = frames.bytes(XenMachine.sharedInfoFrame(memory)), let storePage = frames.bytes(rings.store),
      let consolePage = frames.bytes(rings.console)
    else { throw .invalid }
    self.memory = memory
    planted = PlantedBreakpoints(memory)
    self.layout = layout
    self.tables = tables
    self.rings = rings
    self.time = time
    self.sharedInfo = sharedInfo
    store = XenStore(page: storePage, domain: Int(Self.ownNumber))
    self.console = XenConsole(ConsoleRing(page: consolePage), sink: console)
    pseudoPhysical = frames.all.map { frames.isHypervisors($0) ? .max : $0 - XenMachine.firstFrame }
    processors = doorbells.enumerated().map { number, doorbell in
      DomainProcessor(self, number: number, info: sharedInfo + 64 * number, doorbell: doorbell)
    }
    if let first = doorbells.first { self.console.connect(first) }
    writeMachineTable()
  }

  private static func word(_ page: UnsafeMutableRawPointer, _ offset: Int, _ isWide: Bool) -> UInt64 {
    isWide
      ? page.load(fromByteOffset: offset, as: UInt64.self) : UInt64(page.load(fromByteOffset: offset, as: UInt32.self))
  }

  /// What the page tables no longer say is made unreachable. Before a frame becomes a page table, and before guest code
  /// goes on.
  func removeStaleTranslations() {
    if !tables.stale.isEmpty {
      translations?.remove(tables.stale)
      tables.stale.removeAll()
    }
    for root in tables.releasedRoots { translations?.forget(root: root) }
    tables.releasedRoots = []
  }

  /// What a guest may ask for without being refused, though it has no effect here.
  enum NotHonoured: String {
    case taskSwitched = "CR0.TS (no #NM follows)"
    case breakpointAddresses = "debug registers (breakpoints can't be switched on)"
    case control4 = "CR4.TSD, CR4.DE"
    case nestedTask = "RFLAGS.NT at a trap (it is lost)"
  }

  func countNotHonoured(_ what: NotHonoured) { notHonouredCounts[what, default: 0] &+= 1 }

  func count(hypercall number: UInt64, _ times: UInt64 = 1) {
    if number < UInt64(hypercallCounts.count) { hypercallCounts[Int(number)] &+= times }
  }

  /// Hypercalls whose first argument is an operation.
  private static let callsWithOperations: Set<UInt64> = [7, 12, 17, 18, 20, 24, 28, 29, 30, 32, 33, 34]
  /// A guest that tries all numbers must not fill the monitor's memory.
  private static let notImplementedLimit = 200

  func countNotImplemented(_ number: UInt64, operation: UInt64) {
    let key = HypercallName.of(number) + (Self.callsWithOperations.contains(number) ? " \(operation)" : "")
    guard notImplementedCounts[key] != nil || notImplementedCounts.count < Self.notImplementedLimit else { return }
    notImplementedCounts[key, default: 0] &+= 1
  }

  /// VMASST_TYPE_architectural_iopl: the guest has its I/O privilege level in RFLAGS, as on a bare machine.
  var showsIOPrivilege: Bool { assists & 1 << 4 != 0 }

  /// DOMID_SELF, and the number of the only domain that there is.
  static let self16: UInt16 = 0x7ff0
  static let devices16: UInt16 = 0x7ff1
  static let hypervisor16: UInt16 = 0x7ff2
  static let ownNumber: UInt16 = 1

  func isSelf(_ domain: UInt16) -> Bool { domain == Self.self16 || domain == Self.ownNumber }

  var nextWatchdog: UInt64 { min(watchdogs.first ?? .max, watchdogs.second ?? .max) }

  func end(_ ending: Ending) {
    guard self.ending == nil else { return }
    self.ending = ending
    for processor in processors { processor.doorbell.ring() }
  }

  /// Where a 64-bit domain sees the machine-to-physical table.
  static let machineToPhysical: UInt64 = 0xffff_8000_0000_0000
  /// The addresses of that table, and the machine frame that it begins with.
  public var machineTable: (addresses: Range<UInt64>, frame: UInt64) {
    let frames = XenMachine.tableFrames(memory)
    let start = layout == .bits64 ? Self.machineToPhysical : Self.machineToPhysical32
    return (
      start..<(start + (UInt64(pseudoPhysical.count) + XenMachine.firstFrame) * layout.wordSize), frames.lowerBound
    )
  }

  /// One entry of the machine-to-physical table; `nil` beyond it. What is no frame of the domain's has none.
  func pseudoPhysicalFrame(_ machineFrame: UInt64) -> UInt64? {
    frames.index(machineFrame).map { pseudoPhysical[$0] }
  }

  /// Of a saved domain, an entry a frame.
  func restorePseudoPhysical(_ saved: [UInt64]) {
    pseudoPhysical = saved
    writeMachineTable()
  }

  /// MMU_MACHPHYS_UPDATE.
  func setPseudoPhysical(_ machineFrame: UInt64, _ value: UInt64) {
    guard let index = frames.index(machineFrame) else { return }
    pseudoPhysical[index] = value
    writeMachineTable(machineFrame, value)
  }

  /// The model-specific register by which a page of hypercalls is asked for: bits 0 to 11 are the page's number, of which there
  /// is one.
  func writeHypercallPage(_ value: UInt64) -> Bool {
    let frame = value >> 12
    guard value & 4095 == 0, frames.isOwned(frame), !frames.isHypervisors(frame), tables.isWritable(frame),
      let page = frames.bytes(frame)
    else { return false }
    XenHypercallPage.bytes(is64Bit: layout == .bits64).withUnsafeBytes { code in
      if let start = code.baseAddress { page.copyMemory(from: start, byteCount: code.count) }
      frames.didStore(at: page, count: code.count)
    }
    return true
  }

  /// Where a 32-bit domain sees it, as memory that it can read.
  static let machineToPhysical32: UInt64 = 0xf580_0000

  private func writeMachineTable(_ machineFrame: UInt64, _ value: UInt64) {
    let offset = Int(machineFrame) * Int(layout.wordSize)
    let table = XenMachine.tableFrames(memory)
    guard let page = frames.bytes(table.lowerBound + UInt64(offset / 4096)) else { return }
    switch layout {
    case .bits64: page.storeBytes(of: value, toByteOffset: offset % 4096, as: UInt64.self)
    case .bits32:
      page.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset % 4096, as: UInt32.self)
    }
  }

  /// All of it: below the first frame there is nothing.
  private func writeMachineTable() {
    for frame in 0..<XenMachine.firstFrame { writeMachineTable(frame, .max) }
    for frame in frames.all { writeMachineTable(frame, pseudoPhysicalFrame(frame) ?? .max) }
  }

  /// What of shared_info says how many pseudo-physical frames there are: the domain's own idea (`arch.max_pfn`).
  var claimedFrameCount: UInt64 {
    layout == .bits64
      ? sharedInfo.load(fromByteOffset: 3088, as: UInt64.self)
      : UInt64(sharedInfo.load(fromByteOffset: 2316, as: UInt32.self))
  }

  func change(_ table: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    // What a page holds is checked when it becomes a table: nobody may write to it any more by then.
    if tables.use(table) != .table1 { removeStaleTranslations() }
    try tables.update(table: table, position: position, to: value)
  }

  /// As above, or an ordinary store where the frame is no page table.
  func changeOrStore(_ frame: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    if tables.use(frame).level != nil { return try change(frame, position, to: value) }
    guard tables.isWritable(frame), let entry = frames.entry(frame, position) else { throw .invalid }
    entry.pointee = value
    frames.didStore(at: entry)
  }

  /// What it counts, by name.
  var details: [String: UInt64] {
    var details: [String: UInt64] = [:]
    for (number, count) in hypercallCounts.enumerated() where count > 0 {
      details["hypercall: \(HypercallName.of(UInt64(number)))"] = count
    }
    for (name, count) in notImplementedCounts { details["hypercall refused with -ENOSYS: \(name)"] = count }
    for (what, count) in notHonouredCounts { details["not honoured: \(what.rawValue)"] = count }
    if console.unseenCount > 0 {
      details["bytes written by console_io beside the console's ring, not shown"] = console.unseenCount
    }
    details["page-table entries written"] = tables.updateCount
    details["page tables validated"] = tables.validationCount
    details["mappings made"] = pageFaultMappings
    details["pages mapped"] = pagesMapped
    return details
  }

  // MARK: Memory as the guest sees it

  /// Reads the guest's memory through its kernel's page tables.
  func read(_ address: UInt64, count: Int, root: UInt64) throws(XenError) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    var position = address
    while bytes.count < count {
      guard let leaf = tables.leaf(position, root: root), leaf.isPresent,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      let offset = Int(position & 4095)
      let part = min(4096 - offset, count - bytes.count)
      bytes += UnsafeRawBufferPointer(start: page + offset, count: part)
      position &+= UInt64(part)
    }
    return bytes
  }

  /// An integer, least significant byte first.
  func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ address: UInt64, root: UInt64
  ) throws(XenError) -> Value {
    let size = MemoryLayout<Value>.size
    if Int(address & 4095) + size <= 4096 { return try bytes(address, root: root).loadUnaligned(as: Value.self) }
    var value: Value = 0
    for position in 0..<size {
      let byte = try bytes(address &+ UInt64(position), root: root).load(as: UInt8.self)
      value |= Value(truncatingIfNeeded: byte) << Value(truncatingIfNeeded: 8 * position)
    }
    return value
  }

  /// Where a byte that can be read is, and what follows it in its page.
  private func bytes(_ address: UInt64, root: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard let leaf = tables.leaf(address, root: root), leaf.isPresent,
      let page = frames.bytes(PageTables.frame(leaf.entry))
    else { throw .badAddress }
    return page + Int(address & 4095)
  }

  /// The same of one that can be written; the page tables say that it was.
  private func writableBytes(_ address: UInt64, root: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard let leaf = tables.leaf(address, root: root), leaf.isPresent, leaf.isWritable,
      let page = frames.bytes(PageTables.frame(leaf.entry))
    else { throw .badAddress }
    frames.entry(leaf.table, leaf.position)?.pointee |= PageTables.accessed | PageTables.dirty
    return page + Int(address & 4095)
  }

  /// Writes to the guest's memory as its own kernel could, and says so in the page tables.
  func write(_ bytes: [UInt8], to address: UInt64, root: UInt64) throws(XenError) {
    var done = 0
    while done < bytes.count {
      let position = address &+ UInt64(done)
      guard let leaf = tables.leaf(position, root: root), leaf.isPresent, leaf.isWritable,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      frames.entry(leaf.table, leaf.position)?.pointee |= PageTables.accessed | PageTables.dirty
      let offset = Int(position & 4095)
      let part = min(4096 - offset, bytes.count - done)
      bytes[done..<(done + part)].withUnsafeBytes { source in
        if let start = source.baseAddress { (page + offset).copyMemory(from: start, byteCount: part) }
        frames.didStore(at: page + offset, count: part)
      }
      done += part
    }
  }

  func write<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, to address: UInt64, root: UInt64
  ) throws(XenError) {
    let size = MemoryLayout<Value>.size
    if Int(address & 4095) + size <= 4096 {
      let place = try writableBytes(address, root: root)
      place.storeBytes(of: value.littleEndian, as: Value.self)
      return frames.didStore(at: place, count: size)
    }
    for position in 0..<size {
      let byte = UInt8(truncatingIfNeeded: value >> Value(truncatingIfNeeded: 8 * position))
      let place = try writableBytes(address &+ UInt64(position), root: root)
      place.storeBytes(of: byte, as: UInt8.self)
      frames.didStore(at: place, count: 1)
    }
  }
}
