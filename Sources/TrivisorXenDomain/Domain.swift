// A Xen domain as its hypervisor sees it: memory, page tables, event channels, console, store, and what it has registered.
//
// Nothing here knows how guest code is executed. Hypercalls take and change registers; what of the guest's address space
// is no longer true after a change goes to a `TranslationKeeper`, whoever that is.
//
//     Domain                what all processors share
//       DomainMemory        frames, page tables, the machine-to-physical table; memory as the kernel sees it
//       DomainEvents        ports of event channels, and who is told of them
//       DomainGrants        what it allows others to map
//       DiskService, NetworkService, ConsoleService   our ends of its devices
//     DomainProcessor       one of them: registers, what its kernel has registered
//       TrapDelivery, TrapReturn      into the kernel and out of it (iret)
//     Hypercall, …Calls     hypercalls by subject
//     InstructionEmulation, SegmentEmulation   what a guest kernel executes all the same
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
  let memory: DomainMemory
  /// By the width of its words.
  public let layout: SharedLayout
  private(set) var processors: [DomainProcessor] = []
  /// What whoever executes its code honours; nothing, natively.
  public var abilities: ExecutorAbilities = []
  /// Whoever is to be told what of the domain's page tables is no longer true.
  public var translations: (any TranslationKeeper)? {
    get { memory.translations }
    set { memory.translations = newValue }
  }
  var ending: Ending?
  var store: XenStore
  let rings: Rings
  /// The hypervisor's end of it.
  public let console: XenConsole
  let events: DomainEvents
  let grants: DomainGrants
  let time: SystemTime
  /// INT3 for a debugger from outside.
  let planted: PlantedBreakpoints
  /// Processors of which a debugger watches memory: their pages are not mapped.
  var watcherCount = 0
  /// Our ends of its disks; `DiskService` works with them.
  var disks: [BlockBackEnd] = []
  /// Our ends of its network interfaces; `NetworkService` works with them.
  var networks: [NetworkBackEnd] = []
  /// Our end of its second console, if it has one; `ConsoleService` works with it.
  var secondConsole: ConsoleBackEnd?
  /// PHYSDEVOP_pirq_eoi_gmfn: the frame, which stays writable; nothing is ever written to it.
  var endOfInterruptPage: UInt64?
  /// When the domain ends unless it says before then that it is alive (SCHEDOP_watchdog).
  var watchdogs = Watchdogs()
  var speaker = SpeakerTimer()
  /// VM_ASSIST: bits by type.
  var assists: UInt64 = 0
  let sharedInfo: UnsafeMutableRawPointer
  var counts = DomainCounts()

  /// The domain that the domain builder left in memory.
  /// - Parameters:
  ///   - console: gets what the domain prints.
  ///   - doorbells: one for each processor.
  ///   - disks: what is on them.
  ///   - networks: its network interfaces.
  ///   - secondConsole: what is at the other end of a console beside the first, if there is to be one.
  /// - Returns: `nil` when the image has spoilt what the builder made.
  public convenience init?(
    memory: GuestMemory, console: any SerialSink, doorbells: [any DomainDoorbell], disks: [any BlockStorage] = [],
    networks: [NetworkInterface] = [], secondConsole: SecondConsole? = nil, start: XenDomainStart
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
      try self.init(
        DomainMemory(memory, layout, tables), rings, GrantTable(), console: console, doorbells: doorbells,
        time: SystemTime())
    } catch { return nil }
    for processor in processors {
      // Upcalls are masked until the guest is ready for them.
      processor.info.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
    }
    processors[0].kernelRoot = root
    processors[0].isInitialised = true
    processors[0].isUp = true
    processors[0].begin(start)
    events.channels.bind(XenMachine.storePort, .store)
    events.channels.bind(XenMachine.consolePort, .console)
    publishStore()
    self.disks = disks.prefix(DomainDiskName.limit).enumerated().map { BlockBackEnd($1, index: $0) }
    for disk in self.disks { disk.publish(in: &store, domain: Int(Self.ownNumber)) }
    self.networks = networks.prefix(NetworkBackEnd.limit).enumerated().map { index, interface in
      NetworkBackEnd(interface, index: index, doorbell: doorbells[0])
    }
    for network in self.networks { network.publish(in: &store, domain: Int(Self.ownNumber)) }
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
    frames.lend(DomainGrants.lentFrames(memory, grants))
    return PageTables(frames, levels: layout == .bits64 ? 4 : 3)
  }

  /// What a new domain and a restored one have in common.
  /// - Throws: `XenError` where the rings are not in the domain's memory.
  init(
    _ memory: DomainMemory, _ rings: Rings, _ grants: GrantTable, console: any SerialSink,
    doorbells: [any DomainDoorbell], time: SystemTime
  ) throws(XenError) {
    let frames = memory.frames
    guard let sharedInfo = frames.bytes(XenMachine.sharedInfoFrame(memory.guest)),
      let storePage = frames.bytes(rings.store), let consolePage = frames.bytes(rings.console)
    else { throw .invalid }
    self.memory = memory
    layout = memory.layout
    planted = PlantedBreakpoints(memory.guest)
    self.rings = rings
    self.time = time
    self.sharedInfo = sharedInfo
    store = XenStore(page: storePage, domain: Int(Self.ownNumber))
    self.console = XenConsole(ConsoleRing(page: consolePage), sink: console)
    events = DomainEvents(memory, sharedInfo: sharedInfo)
    self.grants = DomainGrants(memory, grants)
    processors = doorbells.enumerated().map { number, doorbell in
      DomainProcessor(self, number: number, info: sharedInfo + 64 * number, doorbell: doorbell)
    }
    events.processors = processors
    if let first = doorbells.first { self.console.connect(first) }
  }

  private static func word(_ page: UnsafeMutableRawPointer, _ offset: Int, _ isWide: Bool) -> UInt64 {
    isWide
      ? page.load(fromByteOffset: offset, as: UInt64.self) : UInt64(page.load(fromByteOffset: offset, as: UInt32.self))
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

  /// Says what a processor is like; as the host's are, unless it was said.
  public func identify(_ number: Int, as identification: DomainIdentification) {
    processors[number].identification = identification
  }

  /// The addresses of the machine-to-physical table, and the machine frame that it begins with.
  public var machineTable: (addresses: Range<UInt64>, frame: UInt64) {
    (memory.machineTable.addresses, memory.machineTable.firstFrame)
  }

  /// What it counts, by name.
  var details: [String: UInt64] {
    var details = counts.details
    if console.unseenCount > 0 {
      details["bytes written by console_io beside the console's ring, not shown"] = console.unseenCount
    }
    details["page-table entries written"] = memory.tables.updateCount
    details["page tables validated"] = memory.tables.validationCount
    return details
  }
}
