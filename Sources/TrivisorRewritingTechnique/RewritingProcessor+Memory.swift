// Memory as the slow path and the call-outs see it: linear addresses through the guest's page tables, RAM or devices
// behind them.

import TrivisorCWorldSwitch
import TrivisorDevices
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension RewritingProcessor {
  var overridesSMAP: Bool { control.overridesSMAP }

  /// Answers a TLB miss.
  /// - Returns: where translated code goes on: at the check once more, or at its copy for the bounce buffer; `nil` if the
  ///   check is one for several accesses, and this one can't use RAM in one page.
  func resolve(_ access: AccessSite) throws(Interruption) -> UInt64? {
    let state = block.state
    let linear = state.pointee.address
    if access.waitsForX87, hasPendingX87Error {
      guard cr0.contains(.numericError) else { throw .unsupported("an x87 error reported by IRQ 13") }
      throw .exception(.x87)
    }
    if access.mustBeAligned, linear % UInt64(access.size) != 0 { throw .exception(.general) }
    if mode.isFlat, mode.bits != .bits64, linear + UInt64(access.size) > 0x1_0000_0000 {
      throw .exception(access.isStack ? .stack(0) : .general)
    }
    let kind: MemoryAccess = access.isWrite ? .write : .read
    let pieces = try locate(linear, count: Int(access.size), kind, isStack: access.isStack)
    let first = pieces.first
    if pieces.secondCount == 0 {
      let page = first & ~4095
      if !mode.checksAccesses, let host = mmu.host(page, count: 4096), !(access.isWrite && store.isCode(first >> 12)) {
        if access.isWrite { store.codePages.noteWritable(first >> 12) }
        translations.data.insert(
          linear, host: host, view: Int(access.view), isWrite: access.isWrite, isGlobal: mmu.isGlobal,
          shift: mmu.pageShift)
        state.pointee.t1 = linear
        return store.translator.cache.base &+ UInt64(access.retry)
      }
    }
    if access.isShared { return nil }
    let place = block.bounce + Int(linear & 63)
    // An x87 store that raises an exception may leave memory as it is.
    if access.isRead || (access.waitsForX87 && isRAM(pieces)) {
      readPhysical(first, into: place, count: pieces.firstCount)
      readPhysical(pieces.second, into: place + pieces.firstCount, count: pieces.secondCount)
    }
    pending = pieces
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

  private func isRAM(_ pieces: (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int)) -> Bool {
    mmu.host(pieces.first, count: UInt64(pieces.firstCount)) != nil
      && (pieces.secondCount == 0 || mmu.host(pieces.second, count: UInt64(pieces.secondCount)) != nil)
  }

  /// Where the bytes are, after all checks.
  func locate(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool = false, asSupervisor: Bool = false
  ) throws(Interruption) -> (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int) {
    let is64 = self.is64 || (asSupervisor && isLongMode)
    let linear = is64 ? linear : linear & 0xffff_ffff
    let last = linear &+ UInt64(count - 1)
    if is64, !LinearAddress.isCanonical(linear) || !LinearAddress.isCanonical(last) {
      throw .exception(isStack ? .stack(0) : .general)
    }
    let isUser = cpl == 3 && !asSupervisor
    let overrides = overridesSMAP && !asSupervisor
    let isWrite = access == .write
    let view = isUser ? 0 : overrides && cr4.contains(.supervisorAccessPrevention) ? 2 : 1
    if mode.checksAccesses {
      if !asSupervisor { try checkAccess(linear, count: count, access) }
    } else if let host = translations.data.find(linear, view: view, isWrite: isWrite),
      Int(linear & 4095) + count <= 4096
    {
      return (mmu.physical(host), count, 0, 0)
    }
    do throws(GuestException) {
      let first = try mmu.translate(linear, access, isUser: isUser, overridesSMAP: overrides)
      if !mode.checksAccesses, let host = mmu.host(first & ~4095, count: 4096), !(isWrite && store.isCode(first >> 12))
      {
        if isWrite { store.codePages.noteWritable(first >> 12) }
        translations.data.insert(
          linear, host: host, view: view, isWrite: isWrite, isGlobal: mmu.isGlobal, shift: mmu.pageShift)
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
      host.copyMemory(from: place, byteCount: count)
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

  func check(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    _ = try locate(linear, count: count, access, isStack: isStack, asSupervisor: asSupervisor)
  }

  func residentByte(_ linear: UInt64, _ access: MemoryAccess) throws(Interruption) -> UnsafeMutableRawPointer? {
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
}
