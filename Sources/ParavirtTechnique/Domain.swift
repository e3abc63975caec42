// A Xen domain as its hypervisor sees it: memory, page tables, event channels, console, store, and what it has registered.
//
// Nothing here knows how guest code is executed. Hypercalls take and change registers; what of the guest's address space
// is no longer true after a change goes to a `TranslationKeeper`, whoever that is.
//
//     Domain.swift             what there is, memory as the guest sees it
//     TrapDelivery.swift       exceptions, upcalls and the guest's system calls, into its kernel and back (iret)
//     Hypercalls….swift        by subject
//     PrivilegedInstructions   what a guest kernel executes all the same
//
// One lock for all of it: hypercalls of several processors take turns. Guest code runs without it.

import Boot
import CStub
import Glibc
import Sandbox
import Synchronization
import VMM

/// The state of one domain.
final class Domain: @unchecked Sendable {
  // Unchecked: everything is used with `lock` held, but for what the guest shares, which is atomic.

  /// How a domain ends.
  enum Ending: Equatable {
    case shutdown(reason: UInt32)
    case crashed(String)
  }

  let lock = Mutex(())
  let memory: GuestMemory
  let bus: Bus
  let layout: SharedLayout
  var tables: PageTables
  let processors: [VirtualProcessor]
  weak var translations: (any TranslationKeeper)?
  var ending: Ending?
  var store: XenStore
  let console: ConsoleRing
  var channels = EventChannels()
  let time = SystemTime()
  /// The machine-to-physical table, by frame from `XenMachine.firstFrame` on.
  var pseudoPhysical: [UInt64]
  var grants = GrantTable()
  /// When the domain ends unless it says before then that it is alive (SCHEDOP_watchdog).
  var watchdogs: [UInt64?] = [nil, nil]
  /// VM_ASSIST: bits by type.
  var assists: UInt64 = 0
  let sharedInfo: UnsafeMutableRawPointer
  /// Input has come in at the console's port.
  let inputArrived = Atomic<Bool>(false)
  /// How often each hypercall was made, and how often each was refused as not implemented.
  var hypercallCounts = [UInt64](repeating: 0, count: 64)
  var notImplementedCounts: [String: UInt64] = [:]
  /// What the guest asked for and natively run code can't have, by what it is.
  private(set) var notHonouredCounts: [NotHonoured: UInt64] = [:]
  var pageFaultMappings: UInt64 = 0
  var pagesMapped: UInt64 = 0

  var frames: MachineFrames { tables.frames }

  /// The domain that the domain builder left in memory.
  /// - Returns: `nil` when the image has spoilt what the builder made.
  init?(memory: GuestMemory, bus: Bus, doorbells: [Doorbell], start: XenDomainStart) {
    self.memory = memory
    self.bus = bus
    layout = start.is64Bit ? .bits64 : .bits32
    let sharedFrame = XenMachine.sharedInfoFrame(memory)
    let frames = MachineFrames(memory)
    tables = PageTables(
      frames, shared: XenMachine.grantTableFrame(memory)...sharedFrame, levels: layout == .bits64 ? 4 : 3)
    let root = start.rootFrame
    let isWide = layout == .bits64
    guard (try? tables.pin(root, level: tables.levels)) != nil, let sharedInfo = frames.bytes(sharedFrame),
      let leaf = tables.leaf(start.startInfo, root: root), let page = frames.bytes(PageTables.frame(leaf.entry)),
      let storePage = frames.bytes(Self.word(page, isWide ? 56 : 44, isWide)),
      let consolePage = frames.bytes(Self.word(page, isWide ? 72 : 52, isWide))
    else { return nil }
    self.sharedInfo = sharedInfo
    store = XenStore(page: storePage, domain: Int(Self.ownNumber))
    console = ConsoleRing(page: consolePage, bus: bus)
    processors = doorbells.enumerated().map { number, doorbell in
      let info = sharedInfo + 64 * number
      // Upcalls are masked until the guest is ready for them.
      info.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
      return VirtualProcessor(number: number, info: info, doorbell: doorbell, sharesRoot: !isWide)
    }
    pseudoPhysical = (0..<UInt64(frames.all.count)).map { $0 }
    processors[0].kernelRoot = root
    processors[0].isInitialised = true
    processors[0].isUp = true
    channels.bind(XenMachine.storePort, .store)
    channels.bind(XenMachine.consolePort, .console)
    time.writeWallClock(sharedInfo, offset: layout.wallClock)
    for processor in processors { time.update(processor.info) }
    processors[0].runstate.change(to: .running, at: monotonicNanoseconds())
    console.listen()
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
    case control4 = "CR4.TSD, CR4.DE, CR4.PCE"
    case nestedTask = "RFLAGS.NT at a trap (it is lost)"
  }

  func countNotHonoured(_ what: NotHonoured) { notHonouredCounts[what, default: 0] &+= 1 }

  /// DOMID_SELF, and the number of the only domain that there is.
  static let self16: UInt16 = 0x7ff0
  static let ownNumber: UInt16 = 1

  func isSelf(_ domain: UInt16) -> Bool { domain == Self.self16 || domain == Self.ownNumber }

  var nextWatchdog: UInt64 { watchdogs.reduce(.max) { min($0, $1 ?? .max) } }

  func end(_ ending: Ending) {
    guard self.ending == nil else { return }
    self.ending = ending
    for processor in processors { processor.doorbell.ring() }
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
    if Int(address & 4095) + size <= 4096 {
      guard let leaf = tables.leaf(address, root: root), leaf.isPresent,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      return (page + Int(address & 4095)).loadUnaligned(as: Value.self)
    }
    return try read(address, count: size, root: root).withUnsafeBytes { $0.loadUnaligned(as: Value.self) }
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
      }
      done += part
    }
  }

  func write<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, to address: UInt64, root: UInt64
  ) throws(XenError) {
    try write(withUnsafeBytes(of: value.littleEndian) { Array($0) }, to: address, root: root)
  }
}

/// Where things are in what the domain shares with its hypervisor, by the width of its words.
enum SharedLayout {
  case bits64, bits32

  var wordSize: UInt64 { self == .bits64 ? 8 : 4 }
  /// In shared_info.
  var pending: Int { 2048 }
  var mask: Int { self == .bits64 ? 2560 : 2176 }
  var wallClock: Int { self == .bits64 ? 3072 : 2304 }
  /// How many ports the two levels have.
  var portLimit: UInt32 { self == .bits64 ? 4096 : 1024 }
  /// In vcpu_info.
  var selector: Int { self == .bits64 ? 8 : 4 }
  var faultAddress: Int { self == .bits64 ? 16 : 8 }
}
