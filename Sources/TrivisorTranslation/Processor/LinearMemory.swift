// Memory as the slow path and the call-outs see it: linear addresses through the guest's page tables, RAM or devices
// behind them. Every access of the guest to a device goes through here, counted and timed.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// A processor's way to memory and ports.
final class LinearMemory {
  private let block: StateBlock
  private let mmu: GuestMMU
  private let store: TranslationCache
  private let translations: AddressTranslations
  private let control: ControlState
  private let surroundings: any ProcessorSurroundings
  private let tally: ProcessorTally
  private let follower: DebuggerFollower
  private let turn: ProcessorTurn

  /// The instruction in work reaches memory by elements that a mask selects.
  var selectsElements = false
  /// The breakpoints that accesses of the instruction in work have hit.
  @exclusivity(unchecked) var accessHits: DR6 = []
  /// The physical pieces of the access that is on the bounce buffer.
  @exclusivity(unchecked) private var pending: (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int) = (
    0, 0, 0, 0
  )
  /// The access on the bounce buffer is to be stored where it belongs: until then nobody else may have a turn, or an operation with
  /// LOCK would not be one step.
  @exclusivity(unchecked) private var storesLater = false
  /// FSW.ES.
  private static let errorSummary: UInt16 = 0x80

  init(
    _ block: StateBlock, _ mmu: GuestMMU, _ store: TranslationCache, _ translations: AddressTranslations,
    _ control: ControlState, _ surroundings: any ProcessorSurroundings, _ tally: ProcessorTally,
    _ follower: DebuggerFollower, _ turn: ProcessorTurn
  ) {
    self.turn = turn
    self.block = block
    self.mmu = mmu
    self.store = store
    self.translations = translations
    self.control = control
    self.surroundings = surroundings
    self.tally = tally
    self.follower = follower
  }

  /// Answers a TLB miss.
  /// - Returns: where translated code goes on: at the check once more, or at its copy for the bounce buffer; `nil` if
  ///   this one can't use RAM in one page, and there is no copy or the check is one for several accesses, or if a debugger watches the bytes: then
  ///   the instruction begins anew.
  func resolve(_ access: AccessSite) throws(Interruption) -> UInt64? {
    let state = block.state
    let linear = state.pointee.address
    if access.waitsForX87, cws_x87_status() & Self.errorSummary != 0 { throw .exception(.x87) }
    if access.mustBeAligned, linear % UInt64(access.size) != 0 { throw .exception(.general) }
    if control.mode.isFlat, control.mode.bits != .bits64, linear + UInt64(access.size) > 0x1_0000_0000 {
      throw .exception(access.isStack ? .stack(0) : .general)
    }
    let kind: MemoryAccess = access.isWrite ? .write : .read
    if follower.isWatching, !access.isShared, isolates(access, at: linear) { return nil }
    let pieces = try locate(linear, count: Int(access.size), kind, isStack: access.isStack)
    let first = pieces.first
    if pieces.secondCount == 0 {
      let page = first & ~4095
      if !control.mode.checksAccesses, let host = mmu.host(page, count: 4096),
        !(access.isWrite && store.isCode(first >> 12)), !follower.watches(page: linear)
      {
        // As a rule `locate` has put it there.
        if translations.data.find(linear, view: Int(access.view), isWrite: access.isWrite) == nil {
          if access.isWrite { store.codePages.noteWritable(first >> 12, by: turn.index) }
          translations.data.insert(
            linear, host: host, view: Int(access.view), isWrite: access.isWrite, isGlobal: mmu.isGlobal,
            shift: mmu.pageShift, key: mmu.key)
        }
        state.pointee.t1 = linear
        return store.translator.cache.base &+ UInt64(access.retry)
      }
    }
    if access.isShared || access.bounce == 0 { return nil }
    let place = block.bounce + Int(linear & 63)
    // An x87 store that raises an exception may leave memory as it is.
    if access.isRead || (access.waitsForX87 && isRAM(pieces)) {
      readPhysical(first, into: place, count: pieces.firstCount)
      readPhysical(pieces.second, into: place + pieces.firstCount, count: pieces.secondCount)
    }
    pending = pieces
    storesLater = access.isWrite
    state.pointee.t1 = linear & 63
    state.pointee.t2 = UInt64(UInt(bitPattern: block.bounce))
    return store.translator.cache.base &+ UInt64(access.bounce)
  }

  /// Puts what was stored to the bounce buffer where it belongs.
  /// - Returns: whether `running` is still good.
  func storePending(_ access: AccessSite, _ running: Block) throws(Interruption) -> Bool {
    if access.waitsForX87, !isRAM(pending), cws_x87_error_before_store() != 0 { return running.isValid }
    let place = block.bounce + Int(block.state.pointee.address & 63)
    var reason = writePhysical(pending.first, from: place, count: pending.firstCount)
    if pending.secondCount != 0 {
      let second = writePhysical(pending.second, from: place + pending.firstCount, count: pending.secondCount)
      reason = reason ?? second
    }
    if let reason { throw .stop(reason) }
    return running.isValid
  }

  /// Whether the access in work is stored where it belongs only afterwards (`storePending`): asked once.
  @inline(__always)
  func takeStoresLater() -> Bool {
    guard storesLater else { return false }
    storesLater = false
    return true
  }

  private func isRAM(_ pieces: (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int)) -> Bool {
    mmu.host(pieces.first, count: UInt64(pieces.firstCount)) != nil
      && (pieces.secondCount == 0 || mmu.host(pieces.second, count: UInt64(pieces.secondCount)) != nil)
  }

  /// Where the bytes are, after all checks.
  func locate(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool = false, asSupervisor: Bool = false
  ) throws(Interruption) -> (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int) {
    let is64 = control.is64 || (asSupervisor && control.isLongMode)
    let linear = is64 ? linear : linear & 0xffff_ffff
    let last = linear &+ UInt64(count - 1)
    if is64, !LinearAddress.isCanonical(linear) || !LinearAddress.isCanonical(last) {
      throw .exception(isStack ? .stack(0) : .general)
    }
    let isUser = control.privilege == 3 && !asSupervisor
    let overrides = control.overridesSMAP && !asSupervisor
    let isWrite = access == .write
    let view =
      isUser && !control.isDomainKernel ? 0 : overrides && control.cr4.contains(.supervisorAccessPrevention) ? 2 : 1
    if follower.isWatching, !asSupervisor { follower.note(linear, count: count, isWrite: isWrite) }
    if control.mode.checksAccesses {
      if !asSupervisor { try checkAccess(linear, count: count, access) }
    } else if let host = translations.data.find(linear, view: view, isWrite: isWrite),
      Int(linear & 4095) + count <= 4096
    {
      return (mmu.physical(host), count, 0, 0)
    }
    do throws(GuestException) {
      let first = try mmu.translate(linear, access, isUser: isUser, overridesSMAP: overrides)
      if !control.mode.checksAccesses, let host = mmu.host(first & ~4095, count: 4096),
        !(isWrite && store.isCode(first >> 12)), !follower.watches(page: linear)
      {
        if isWrite { store.codePages.noteWritable(first >> 12, by: turn.index) }
        translations.data.insert(
          linear, host: host, view: view, isWrite: isWrite, isGlobal: mmu.isGlobal, shift: mmu.pageShift,
          key: mmu.key)
      }
      let inPage = min(count, 4096 - Int(linear & 4095))
      if inPage == count { return (first, count, 0, 0) }
      let nextPage = ((linear | 4095) &+ 1) & (is64 ? .max : 0xffff_ffff)
      let second = try mmu.translate(nextPage, access, isUser: isUser, overridesSMAP: overrides)
      return (first, inPage, second, count - inPage)
    } catch {
      throw .exception(error)
    }
  }

  /// Looks at an access of translated code, of which the page is not in the TLB.
  /// - Returns: whether it is to bytes that are watched, and its instruction must begin anew, by itself.
  private func isolates(_ access: AccessSite, at linear: UInt64) -> Bool {
    let count = Int(access.size)
    let used =
      follower.watchpoint(linear, count: count, isWrite: access.isWrite)
      ?? (access.isRead ? follower.watchpoint(linear, count: count, isWrite: false) : nil)
    guard let used else { return false }
    if control.isWatched {
      follower.hit = follower.hit ?? used
      return false
    }
    if control.isAlone == .no { control.isAlone = .once }
    control.isWatched = true
    return true
  }

  // MARK: Physical memory

  private func width(_ physical: UInt64, _ count: Int) -> AccessWidth {
    // As wide as alignment and what is left allow.
    if count >= 8 { return .quadword }
    if count >= 4 { return .doubleword }
    return count >= 2 ? .word : .byte
  }

  func readPhysical(_ physical: UInt64, into place: UnsafeMutableRawPointer, count: Int) {
    guard count > 0 else { return }
    if let host = mmu.host(physical, count: UInt64(count)) {
      place.copyMemory(from: host, byteCount: count)
      return
    }
    var offset = 0
    while offset < count {
      let address = physical &+ UInt64(offset)
      let width = width(address, count - offset)
      var value = readDevice(address, width: width)
      withUnsafeBytes(of: &value) { bytes in
        for byte in 0..<width.rawValue {
          place.storeBytes(of: bytes[byte], toByteOffset: offset + byte, as: UInt8.self)
        }
      }
      offset += width.rawValue
    }
  }

  func writePhysical(_ physical: UInt64, from place: UnsafeRawPointer, count: Int) -> StopReason? {
    guard count > 0 else { return nil }
    if let host = mmu.host(physical, count: UInt64(count)) {
      storeAtOnce(to: host, from: place, count: count)
      store.invalidate(physical, count: count)
      return nil
    }
    var offset = 0
    while offset < count {
      let address = physical &+ UInt64(offset)
      let width = width(address, count - offset)
      var value: UInt64 = 0
      for byte in 0..<width.rawValue {
        value |= UInt64(place.load(fromByteOffset: offset + byte, as: UInt8.self)) << UInt64(8 * byte)
      }
      if let reason = writeDevice(address, value, width: width) { return reason }
      offset += width.rawValue
    }
    return nil
  }

  /// What is as wide as a register is stored in one step, as others may see it.
  private func storeAtOnce(to host: UnsafeMutableRawPointer, from place: UnsafeRawPointer, count: Int) {
    switch count {
    case 2: host.storeBytes(of: place.loadUnaligned(as: UInt16.self), as: UInt16.self)
    case 4: host.storeBytes(of: place.loadUnaligned(as: UInt32.self), as: UInt32.self)
    case 8: host.storeBytes(of: place.loadUnaligned(as: UInt64.self), as: UInt64.self)
    default: host.copyMemory(from: place, byteCount: count)
    }
  }

  // MARK: Linear memory

  func loadBytes(
    _ linear: UInt64, into bytes: UnsafeMutableRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    guard let base = bytes.baseAddress else { return }
    let pieces = try locate(linear, count: bytes.count, .read, isStack: isStack, asSupervisor: asSupervisor)
    readPhysical(pieces.first, into: base, count: pieces.firstCount)
    readPhysical(pieces.second, into: base + pieces.firstCount, count: pieces.secondCount)
  }

  func saveBytes(
    _ linear: UInt64, from bytes: UnsafeRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    guard let base = bytes.baseAddress else { return }
    let pieces = try locate(linear, count: bytes.count, .write, isStack: isStack, asSupervisor: asSupervisor)
    let first = writePhysical(pieces.first, from: base, count: pieces.firstCount)
    let second = writePhysical(pieces.second, from: base + pieces.firstCount, count: pieces.secondCount)
    if let reason = first ?? second { throw .stop(reason) }
  }

  func residentByte(_ linear: UInt64, _ access: MemoryAccess) throws(Interruption) -> UnsafeMutableRawPointer? {
    // A debugger wants to see each access.
    if follower.watches(page: linear) { return nil }
    let physical = try locate(linear, count: 1, access).first
    guard let page = mmu.host(physical & ~4095, count: 4096) else { return nil }
    return page + Int(physical & 4095)
  }

  func didStore(to place: UnsafeMutableRawPointer, count: Int) {
    store.invalidate(mmu.physical(UInt64(UInt(bitPattern: place))), count: count)
  }

  func withBytes(
    _ linear: UInt64, count: Int, _ access: MemoryAccess,
    _ body: (UnsafeMutableRawPointer) throws(Interruption) -> Void
  ) throws(Interruption) {
    let pieces = try locate(linear, count: count, access)
    if pieces.secondCount == 0, let host = mmu.host(pieces.first, count: UInt64(count)) {
      try body(host)
      if access == .write { store.invalidate(pieces.first, count: count) }
      return
    }
    let copy = block.bounce
    readPhysical(pieces.first, into: copy, count: pieces.firstCount)
    readPhysical(pieces.second, into: copy + pieces.firstCount, count: pieces.secondCount)
    try body(copy)
    guard access == .write else { return }
    let first = writePhysical(pieces.first, from: copy, count: pieces.firstCount)
    let second = writePhysical(pieces.second, from: copy + pieces.firstCount, count: pieces.secondCount)
    if let reason = first ?? second { throw .stop(reason) }
  }

  // MARK: Devices

  private func timed<Result>(_ body: () -> Result) -> Result {
    let began = cws_timestamp()
    // A device may take its time: meanwhile others have their turn.
    turn.release()
    defer {
      let ended = cws_timestamp()
      tally.ledger.devices &+= ended &- began
      turn.resume()
      if turn.isShared { tally.ledger.awaitingTurn &+= cws_timestamp() &- ended }
    }
    return body()
  }

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 {
    tally.counters.count(.portRead)
    return timed { surroundings.readPort(port, width: width) }
  }

  /// - Returns: why the machine ends, if it does.
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? {
    tally.counters.count(.portWrite)
    return timed { surroundings.writePort(port, value, width: width) }
  }

  func readDevice(_ physical: UInt64, width: AccessWidth) -> UInt64 {
    tally.counters.count(.memoryRead)
    return timed {
      isLocalPage(physical)
        ? surroundings.readLocalPage(physical & 4095, width: width) : surroundings.readMemory(physical, width: width)
    }
  }

  /// - Returns: why the machine ends, if it does.
  func writeDevice(_ physical: UInt64, _ value: UInt64, width: AccessWidth) -> StopReason? {
    tally.counters.count(.memoryWrite)
    return timed {
      guard isLocalPage(physical) else { return surroundings.writeMemory(physical, value, width: width) }
      surroundings.writeLocalPage(value, physical & 4095, width: width)
      return nil
    }
  }

  // MARK: The local APIC

  /// The local APIC's page, where the guest has put it.
  private func isLocalPage(_ physical: UInt64) -> Bool { physical & ~4095 == mmu.localPage }

  /// APIC_BASE changed.
  func localPageChanged() { mmu.localPage = surroundings.localPage ?? .max }

  // MARK: Breakpoints and alignment

  /// What an operand of `count` bytes is aligned to where that is checked: at most 16.
  private static func alignment(_ count: Int) -> UInt64 {
    switch count {
    case 1, 2, 4, 8, 16: UInt64(count)
    case 32: 16
    case 10: 8
    // The x87 environment and state, of 16- and 32-bit form.
    case 14, 94: 2
    case 28, 108: 4
    default: 1
    }
  }

  /// To be told of each access of the guest to memory while `control.mode.checksAccesses`.
  func checkAccess(_ linear: UInt64, count: Int, _ access: MemoryAccess) throws(Interruption) {
    if control.checksAlignment, !selectsElements, linear & (Self.alignment(count) - 1) != 0 {
      throw .exception(.alignmentCheck)
    }
    if control.hasBreakpoints {
      accessHits.formUnion(control.debug.hits(linear, count: count, access == .write ? .write : .read))
    }
  }
}
