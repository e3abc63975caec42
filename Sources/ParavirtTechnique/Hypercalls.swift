// Hypercalls by number (Xen's public header xen.h; 64-bit: RAX the number, RDI RSI RDX R10 R8 the arguments, RAX the
// result). What is not here is answered with -ENOSYS, and counted.

import Boot
import Sandbox
import VMM

extension Domain {
  /// The most entries that one call may bring, so that a call is over in bounded time.
  private static let batchLimit: UInt64 = 4096
  /// XENVER_version: 4.17, whose behaviour this follows.
  private static let version: UInt64 = 4 << 16 | 17

  /// Carries out the hypercall that the registers describe.
  mutating func hypercall(_ registers: inout UserRegisters) {
    let number = registers.rax
    if number < UInt64(hypercallCounts.count) { hypercallCounts[Int(number)] += 1 }
    if number == 23 {
      do throws(XenError) { try iret(&registers) } catch { ending = .crashed("iret from a stack that is not there") }
      return
    }
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8]
    registers.rax = result(number, arguments, &registers)
  }

  private mutating func result(_ number: UInt64, _ a: [UInt64], _ registers: inout UserRegisters) -> UInt64 {
    do throws(XenError) {
      switch number {
      case 0: try setTrapTable(a[0])
      case 1: try updatePageTables(a[0], count: a[1], done: a[2])
      case 4: (eventCallback, failsafeCallback, syscallCallback) = (a[0], a[1], a[2])
      case 13: try multicall(a[0], count: a[1], &registers)
      case 14: try updateMapping(a[0], to: a[1])
      case 17: return try version(a[0], a[1])
      // Only the first domain of a machine may write to the hypervisor's own console.
      case 18: throw .notPermitted
      case 20: try grantTable(a[0], a[1], count: a[2])
      case 25: try setSegmentBase(a[0], a[1], &registers)
      case 26: try extendedPaging(a[0], count: a[1], done: a[2])
      case 29: try schedule(a[0], a[1])
      case 30: try registerCallback(a[0], a[1])
      case 32: try eventChannel(a[0], a[1])
      default: throw .notImplemented
      }
      return 0
    } catch {
      if error == .notImplemented { notImplementedCount += 1 }
      return error.result
    }
  }

  /// Entries of 16 bytes: vector, flags, code selector, address; the last has address 0.
  private mutating func setTrapTable(_ address: UInt64) throws(XenError) {
    guard address != 0 else {
      traps = [TrapEntry](repeating: TrapEntry(), count: 256)
      return
    }
    for position in 0..<257 as Range<UInt64> {
      let head = try readWord(address &+ 16 &* position)
      let target = try readWord(address &+ 16 &* position &+ 8)
      guard target != 0 else { return }
      traps[Int(head & 0xff)] = TrapEntry(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: target)
    }
    throw .invalid
  }

  private mutating func change(_ table: UInt64, _ position: UInt64, to value: UInt64, at address: UInt64?)
    throws(XenError)
  {
    guard try tables.update(table: table, position: position, to: value) else { return }
    // One table can map the same page at several addresses.
    if let address, stale == .nothing, tables.referenceCount(table) == 1 {
      stale = .page(address)
    } else {
      stale = .everything
    }
  }

  /// HYPERVISOR_update_va_mapping: the last-level entry for an address.
  private mutating func updateMapping(_ address: UInt64, to value: UInt64) throws(XenError) {
    guard let leaf = tables.leaf(address, root: root) else { throw .invalid }
    try change(leaf.table, leaf.position, to: value, at: address)
  }

  /// HYPERVISOR_mmu_update: machine address of an entry with the kind in bits 0 and 1, and its value.
  private mutating func updatePageTables(_ address: UInt64, count: UInt64, done: UInt64) throws(XenError) {
    guard count <= Self.batchLimit else { throw .invalid }
    var finished: UInt64 = 0
    defer { report(finished, at: done) }
    while finished < count {
      let pointer = try readWord(address &+ 16 &* finished)
      var value = try readWord(address &+ 16 &* finished &+ 8)
      switch pointer & 3 {
      // MMU_MACHPHYS_UPDATE. The table is no part of this domain's address space, so only the frame is judged.
      case 1: guard frames.index(pointer >> 12) != nil else { throw .invalid }
      case 0, 2:
        let position = pointer >> 3 & 511
        if pointer & 3 == 2, let old = frames.entry(pointer >> 12, position)?.pointee {
          value |= old & (PageTables.accessed | PageTables.dirty)
        }
        try change(pointer >> 12, position, to: value, at: nil)
      default: throw .notImplemented
      }
      finished += 1
    }
  }

  /// HYPERVISOR_mmuext_op: operations of 24 bytes, command and two arguments.
  private mutating func extendedPaging(_ address: UInt64, count: UInt64, done: UInt64) throws(XenError) {
    guard count <= Self.batchLimit else { throw .invalid }
    var finished: UInt64 = 0
    defer { report(finished, at: done) }
    while finished < count {
      let operation = try readHalf(address &+ 24 &* finished)
      let argument = try readWord(address &+ 24 &* finished &+ 8)
      switch operation {
      case 0...3: try tables.pin(argument, level: Int(operation) + 1)
      case 4: try tables.unpin(argument)
      case 5:
        try tables.get(argument, .table(4))
        if rootIsCounted { tables.put(root) }
        rootIsCounted = true
        root = argument
        stale = .everything
      case 6, 8, 10: stale = .everything
      case 7, 9, 11: stale = stale == .nothing || stale == .page(argument) ? .page(argument) : .everything
      default: throw .notImplemented
      }
      finished += 1
    }
  }

  /// How far a batch came, if the guest wants to know.
  private func report(_ finished: UInt64, at address: UInt64) {
    guard address != 0 else { return }
    let count = UInt32(truncatingIfNeeded: finished).littleEndian
    try? write(withUnsafeBytes(of: count) { Array($0) }, to: address)
  }

  /// Entries of 64 bytes: number, result, six arguments. None may be another multicall, or iret.
  private mutating func multicall(_ address: UInt64, count: UInt64, _ registers: inout UserRegisters) throws(XenError) {
    guard count <= Self.batchLimit else { throw .invalid }
    for position in 0..<count {
      let entry = address &+ 64 &* position
      let number = try readWord(entry)
      var arguments: [UInt64] = []
      for argument in 0..<5 as Range<UInt64> { arguments.append(try readWord(entry &+ 16 &+ 8 &* argument)) }
      if number < UInt64(hypercallCounts.count) { hypercallCounts[Int(number)] += 1 }
      let answer =
        number == 13 || number == 23 ? XenError.notImplemented.result : result(number, arguments, &registers)
      try writeWord(answer, to: entry &+ 8)
    }
  }

  /// HYPERVISOR_grant_table_op: setup_table (2), query_size (6), set_version (8; only 1 is there).
  private func grantTable(_ command: UInt64, _ address: UInt64, count: UInt64) throws(XenError) {
    let (good, generalError): (UInt8, UInt8) = (0, 0xff)
    guard count == 1 else { throw count == 0 ? .invalid : .notImplemented }
    switch command {
    case 2:
      let wanted = try readHalf(address &+ 4)
      let isGiven = wanted <= 1
      if wanted == 1 { try writeWord(grantTableFrame, to: try readWord(address &+ 16)) }
      let status = isGiven ? good : generalError
      try write([status, status], to: address &+ 8)
    case 6: try write([1, 0, 0, 0, 1, 0, 0, 0, good, good], to: address &+ 4)
    case 8:
      guard try readHalf(address) == 1 else { throw .invalid }
    default: throw .notImplemented
    }
  }

  private func version(_ command: UInt64, _ argument: UInt64) throws(XenError) -> UInt64 {
    switch command {
    case 0: return Self.version
    case 1:
      // 16 bytes of text.
      try write(Array(".trivisor".utf8) + [UInt8](repeating: 0, count: 7), to: argument)
      return 0
    // XENVER_get_features: no optional feature in any submap.
    case 6:
      try write([0, 0, 0, 0], to: argument &+ 4)
      return 0
    default: throw .notImplemented
    }
  }

  private func setSegmentBase(_ which: UInt64, _ base: UInt64, _ registers: inout UserRegisters) throws(XenError) {
    guard base < MappingChange.addressLimit else { throw .invalid }
    switch which {
    case 0: registers.fsBase = base
    case 2: registers.gsBase = base
    default: throw .notImplemented
    }
  }

  private mutating func schedule(_ command: UInt64, _ argument: UInt64) throws(XenError) {
    switch command {
    case 0: break
    case 1:
      upcallsAreMasked = false
      isBlocked = !hasPendingUpcall
    case 2: ending = .shutdown(reason: try readHalf(argument))
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_callback_op: register (0) a callback of 24 bytes: type, flags, address.
  private mutating func registerCallback(_ command: UInt64, _ argument: UInt64) throws(XenError) {
    guard command == 0 else { throw .notImplemented }
    let address = try readWord(argument &+ 8)
    switch try readHalf(argument) & 0xffff {
    case 0: eventCallback = address
    case 1: failsafeCallback = address
    case 2: syscallCallback = address
    default: throw .invalid
    }
  }

  /// HYPERVISOR_event_channel_op: send (4) to one of the two that the builder has bound.
  private mutating func eventChannel(_ command: UInt64, _ argument: UInt64) throws(XenError) {
    guard command == 4 else { throw .notImplemented }
    switch try readHalf(argument) {
    case XenMachine.storePort:
      if store.serve() { raise(XenMachine.storePort) }
    case XenMachine.consolePort:
      console.drain()
      // What found no room before may have some now.
      _ = console.fill()
      raise(XenMachine.consolePort)
    default: throw .invalid
    }
  }

  /// HYPERVISOR_iret: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss from the stack. Kernel mode only.
  private mutating func iret(_ registers: inout UserRegisters) throws(XenError) {
    var words: [UInt64] = []
    for position in 0..<9 as Range<UInt64> { words.append(try readWord(registers.rsp &+ 8 &* position)) }
    guard words[5] & 3 != 3 else {
      ending = .crashed("the guest entered user mode, which this version's paravirtual technique does not run")
      return
    }
    registers.rax = words[0]
    if words[3] & 0x100 == 0 {
      registers.r11 = words[1]
      registers.rcx = words[2]
    }
    registers.rip = words[4]
    let interruptFlag: UInt64 = 1 << 9
    upcallsAreMasked = words[6] & interruptFlag == 0
    registers.rflags = words[6] | interruptFlag
    registers.rsp = words[7]
  }
}
