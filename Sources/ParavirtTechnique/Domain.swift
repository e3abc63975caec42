// A Xen domain as its hypervisor sees it: memory, page tables, event channels, console, store, and what it has registered.
//
// Nothing here knows how guest code is executed. Hypercalls take and change registers; what of the guest's address space
// is no longer true after a change is left in `stale`, for whoever executes to act on before guest code goes on.

import Boot
import Sandbox
import VMM

/// The state of one domain with one virtual CPU.
struct Domain {
  /// Translations that are gone.
  enum Stale: Equatable {
    case nothing
    case page(UInt64)
    case everything
  }

  /// How a domain ends.
  enum Ending: Equatable {
    case shutdown(reason: UInt32)
    case crashed(String)
  }

  /// What set_trap_table registers for a vector.
  struct TrapEntry {
    var flags: UInt8 = 0
    var codeSelector: UInt16 = 0
    var address: UInt64 = 0
  }

  let frames: MachineFrames
  var tables: PageTables
  /// The machine frame of the L4 in use.
  var root: UInt64
  /// Whether `root` has a reference of its own beside the builder's pin.
  var rootIsCounted = false
  var stale = Stale.nothing
  var ending: Ending?
  var store: XenStore
  let console: ConsoleRing
  var traps = [TrapEntry](repeating: TrapEntry(), count: 256)
  var eventCallback: UInt64 = 0
  var failsafeCallback: UInt64 = 0
  var syscallCallback: UInt64 = 0
  /// The processor wants to sleep until an event comes.
  var isBlocked = false
  /// How often each hypercall was made, and how often one was refused as not implemented.
  var hypercallCounts = [UInt64](repeating: 0, count: 64)
  var notImplementedCount: UInt64 = 0

  /// The one frame of grants, version 1. No back end maps what is granted there yet.
  let grantTableFrame: UInt64

  private let sharedInfo: UnsafeMutableRawPointer

  /// The domain that the domain builder left in memory.
  /// - Parameters:
  ///   - root: the machine frame of its L4.
  ///   - startInfo: the address of its start_info.
  /// - Returns: `nil` when the image has spoilt what the builder made.
  init?(memory: GuestMemory, bus: Bus, root: UInt64, startInfo: UInt64) {
    frames = MachineFrames(memory)
    let sharedFrame = XenMachine.sharedInfoFrame(memory)
    grantTableFrame = XenMachine.grantTableFrame(memory)
    tables = PageTables(frames, shared: grantTableFrame...sharedFrame)
    self.root = root
    guard (try? tables.pin(root, level: 4)) != nil, let sharedInfo = frames.bytes(sharedFrame),
      let leaf = tables.leaf(startInfo, root: root), let start = frames.bytes(PageTables.frame(leaf.entry)),
      let storePage = frames.bytes(start.load(fromByteOffset: 56, as: UInt64.self)),
      let consolePage = frames.bytes(start.load(fromByteOffset: 72, as: UInt64.self))
    else { return nil }
    self.sharedInfo = sharedInfo
    store = XenStore(page: storePage, domain: 1)
    console = ConsoleRing(page: consolePage, bus: bus)
    // Upcalls are masked until the guest is ready for them.
    sharedInfo.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
    console.listen()
  }

  /// Reads the guest's memory through its page tables.
  func read(_ address: UInt64, count: Int) throws(XenError) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    var position = address
    while bytes.count < count {
      guard let leaf = tables.leaf(position, root: root), leaf.entry & PageTables.present != 0,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      let offset = Int(position & 4095)
      let part = min(4096 - offset, count - bytes.count)
      bytes += UnsafeRawBufferPointer(start: page + offset, count: part)
      position &+= UInt64(part)
    }
    return bytes
  }

  func readWord(_ address: UInt64) throws(XenError) -> UInt64 {
    try read(address, count: 8).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
  }

  func readHalf(_ address: UInt64) throws(XenError) -> UInt32 {
    try read(address, count: 4).withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
  }

  /// Writes to the guest's memory as its own kernel could, and says so in the page tables.
  func write(_ bytes: [UInt8], to address: UInt64) throws(XenError) {
    var done = 0
    while done < bytes.count {
      let position = address &+ UInt64(done)
      guard let leaf = tables.leaf(position, root: root), leaf.entry & PageTables.present != 0, leaf.isWritable,
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

  func writeWord(_ value: UInt64, to address: UInt64) throws(XenError) {
    try write(withUnsafeBytes(of: value.littleEndian) { Array($0) }, to: address)
  }

  /// Makes an event channel (two-level ABI: Xen's public headers event_channel.h and xen.h) pending, and the virtual CPU if the channel is not masked.
  mutating func raise(_ port: UInt32) {
    guard port > 0, port < 4096 else { return }
    let bit = UInt64(1) << UInt64(port & 63)
    let word = Int(port >> 6)
    let pending = (sharedInfo + 2048 + 8 * word).assumingMemoryBound(to: UInt64.self)
    let mask = (sharedInfo + 2560 + 8 * word).assumingMemoryBound(to: UInt64.self)
    guard pending.pointee & bit == 0 else { return }
    pending.pointee |= bit
    guard mask.pointee & bit == 0 else { return }
    (sharedInfo + 8).assumingMemoryBound(to: UInt64.self).pointee |= 1 << UInt64(word)
    sharedInfo.storeBytes(of: 1, as: UInt8.self)
    isBlocked = false
  }

  /// The virtual interrupt flag, inverted.
  var upcallsAreMasked: Bool {
    get { sharedInfo.load(fromByteOffset: 1, as: UInt8.self) != 0 }
    nonmutating set { sharedInfo.storeBytes(of: newValue ? 1 : 0, toByteOffset: 1, as: UInt8.self) }
  }

  var hasPendingUpcall: Bool { sharedInfo.load(as: UInt8.self) != 0 }

  /// `vcpu_info.arch.cr2`.
  func setFaultAddress(_ address: UInt64) { sharedInfo.storeBytes(of: address, toByteOffset: 16, as: UInt64.self) }

  /// The frame that an exception or upcall leaves on the guest's stack, and where it goes on (xen-x86_64.h; measured
  /// on Xen 4.17): rcx, r11, the error code if there is one, rip, cs with the saved mask, rflags, rsp, ss.
  mutating func bounce(
    _ registers: inout UserRegisters, to address: UInt64, errorCode: UInt64?, masking: Bool
  ) throws(XenError) {
    let mask: UInt64 = upcallsAreMasked ? 1 : 0
    var frame = [registers.rcx, registers.r11]
    if let errorCode { frame.append(errorCode) }
    let resumeFlag: UInt64 = 1 << 16
    let interruptFlag: UInt64 = 1 << 9
    let flags = registers.rflags & ~(resumeFlag | interruptFlag) | (mask == 0 ? interruptFlag : 0)
    frame += [registers.rip, 0xe030 | mask << 32, flags, registers.rsp, 0xe02b]
    let stack = (registers.rsp & ~15) &- UInt64(8 * frame.count)
    for (position, word) in frame.enumerated() { try writeWord(word, to: stack &+ UInt64(8 * position)) }
    let trapFlag: UInt64 = 1 << 8
    let nestedTask: UInt64 = 1 << 14
    registers.rsp = stack
    registers.rip = address
    registers.rflags &= ~(trapFlag | nestedTask | resumeFlag)
    if masking { upcallsAreMasked = true }
  }

  /// Gives an exception to the guest.
  mutating func raise(
    vector: UInt8, errorCode: UInt64?, _ registers: inout UserRegisters, what: String
  ) {
    let entry = traps[Int(vector)]
    guard entry.address != 0 else {
      ending = .crashed("\(what), and the guest has no handler for it")
      return
    }
    do throws(XenError) {
      try bounce(&registers, to: entry.address, errorCode: errorCode, masking: entry.flags & 4 != 0)
    } catch {
      ending = .crashed("\(what), and the guest has no stack for it")
    }
  }

  /// Delivers an upcall if one is due.
  mutating func deliverUpcall(_ registers: inout UserRegisters) {
    guard hasPendingUpcall, !upcallsAreMasked, eventCallback != 0 else { return }
    do throws(XenError) {
      try bounce(&registers, to: eventCallback, errorCode: nil, masking: true)
    } catch {
      ending = .crashed("an event came, and the guest has no stack for it")
    }
  }
}
