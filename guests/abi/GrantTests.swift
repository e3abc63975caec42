// Grants: a domain that grants pages to itself, maps them by its grants and copies by them.

import CABI
import CPlatform
import CXen

enum GrantTests {
  static let reference: UInt64 = 40
  static let window: UInt64 = 1 << 30
  nonisolated(unsafe) static var own: UInt64 = 0
  nonisolated(unsafe) static var scratch: UInt64 = 0
  nonisolated(unsafe) static var table: UInt64 = 0

  static func operate(_ command: UInt64, _ count: UInt64 = 1) -> UInt64 {
    xen_hypercall(xenGrantTable, command, scratch, count, 0)
  }

  /// A status of 16 bits.
  static func sayStatus(_ what: StaticString, _ result: UInt64, at offset: UInt64) {
    let status = Int16(truncatingIfNeeded: xen_load64(scratch + offset & ~7) >> (offset & 7 * 8))
    Console.write(literal: what)
    Console.write(": \(Int64(bitPattern: result) < 0 ? 0 &- result : result)")
    Console.print(", status \(status < 0 ? "-" : "" as StaticString)\(UInt64(status.magnitude))")
  }

  static func clear() {
    for offset in 0..<16 as Range<UInt64> { xen_store64(scratch + offset * 8, 0) }
  }

  /// Access to `frame` for `domain`, with more flags.
  static func grant(_ reference: UInt64, _ frame: UInt64, _ domain: UInt64, _ flags: UInt64 = 0) {
    xen_store64(table + reference * 8, frame << 32 | domain << 16 | 1 | flags)
  }

  static func map(
    _ what: StaticString, _ address: UInt64, flags: UInt64, _ reference: UInt64, domain: UInt64
  ) -> UInt64 {
    clear()
    xen_store64(scratch, address)
    xen_store64(scratch + 8, flags | reference << 32)
    xen_store64(scratch + 16, domain)
    sayStatus(what, operate(0), at: 18)
    return xen_load64(scratch + 16) >> 32
  }

  static func unmap(_ what: StaticString, _ address: UInt64, _ handle: UInt64) {
    clear()
    xen_store64(scratch, address)
    xen_store64(scratch + 16, handle & 0xffff_ffff)
    sayStatus(what, operate(1), at: 20)
  }

  /// Of each side: reference or frame, whose, offset.
  static func copy(
    _ what: StaticString, _ from: (UInt64, UInt64, UInt64), _ to: (UInt64, UInt64, UInt64), _ length: UInt64,
    _ flags: UInt64
  ) {
    clear()
    xen_store64(scratch, from.0)
    xen_store64(scratch + 8, from.1 | from.2 << 16)
    xen_store64(scratch + 16, to.0)
    xen_store64(scratch + 24, to.1 | to.2 << 16)
    xen_store64(scratch + 32, length | flags << 16)
    sayStatus(what, operate(5), at: 36)
  }

  static func run() {
    guard let space = Platform.makeAddressSpace(), let holder = Platform.allocateFrame(),
      let arguments = Platform.allocateFrame(), let place = Platform.allocateFrame(),
      let page = Platform.allocateFrame(),
      let other = Platform.allocateFrame(), Platform.map(window, to: holder, .readWrite, in: space)
    else { return Console.print("No memory.") }
    Platform.activate(space)
    scratch = arguments.address
    // Ports of one's own tell the domain's number.
    let waiting = EventTests.operate(6, EventTests.ownDomain | EventTests.ownDomain << 16, answer: 1)
    let bound = EventTests.operate(0, EventTests.ownDomain, waiting.answer)
    own = UInt64(EventTests.operate(5, EventTests.ownDomain, bound.answer, answer: 4).answer & 0xffff)
    Platform.takeEvents()
    _ = EventTests.operate(3, bound.answer)
    _ = EventTests.operate(3, waiting.answer)

    clear()
    xen_store64(scratch, 0x7ff0)
    sayStatus("grant query_size", operate(6), at: 12)
    xen_store64(scratch, 3)
    ABI.sayResult("grant set_version 3", operate(8))
    xen_store64(scratch, 1)
    ABI.sayResult("grant set_version 1", operate(8))
    xen_store64(scratch, 0x7ff0)
    ABI.sayResult("grant get_version", operate(10))
    ABI.say("version", xen_load64(scratch) >> 32)
    xen_store64(scratch, 77)
    ABI.sayResult("grant get_version of another domain", operate(10))
    clear()
    xen_store64(scratch, 0x7ff0 | 1 << 32)
    xen_store64(scratch + 16, scratch + 64)
    ABI.sayResult("setup_table twice in one call", operate(2, 2))
    sayStatus("setup_table", operate(2), at: 8)
    let frame = xen_load64(scratch + 64)
    ABI.sayResult("its frame can be mapped", PagingTests.remap(place.address, frame << 12 | 0x67))
    table = place.address
    xen_store64(scratch, 77 | 1 << 32)
    sayStatus("setup_table of another domain", operate(2), at: 8)
    ABI.sayResult("grant operation 99", operate(99))
    mappings(Platform.machineFrame(page.address), page.address)
    copies(Platform.machineFrame(page.address), page.address, Platform.machineFrame(other.address), other.address)
  }

  static func flags(_ reference: UInt64) -> UInt64 { xen_load64(table + reference * 8) & 0xffff }

  static func mappings(_ frame: UInt64, _ address: UInt64) {
    grant(reference, frame, own)
    xen_store64(address, 0x1234)
    let first = map("map", window, flags: 2, reference, domain: own)
    ABI.say("the entry's flags", flags(reference))
    ABI.judge("it is the granted page", xen_load64(window) == 0x1234)
    xen_store64(window + 8, 0x5678)
    ABI.judge("and can be written", xen_load64(address + 8) == 0x5678)
    let second = map("map read-only", window + 4096, flags: 6, reference, domain: own)
    ABI.judge("it is the granted page", xen_load64(window + 4096) == 0x1234)
    ABI.trapCount = 0
    _ = ABI.attempt(abi_store_address(), window + 4096)
    Console.print("a store there: traps \(ABI.trapCount), vector \(ABI.trap.vector), code \(ABI.trap.errorCode)")
    unmap("unmap by another address", window, second)
    unmap("unmap", window, first)
    ABI.say("the entry's flags", flags(reference))
    unmap("unmap the other", window + 4096, second)
    ABI.say("the entry's flags", flags(reference))
    ABI.trapCount = 0
    _ = ABI.attempt(abi_store_address(), window)
    Console.print("a store there: traps \(ABI.trapCount), vector \(ABI.trap.vector), code \(ABI.trap.errorCode)")
    unmap("unmap again", window, first)
    unmap("unmap what never was", window, 0xffff_0000)
    _ = map("map without saying how", window, flags: 0, reference, domain: own)
    _ = map("map of another domain", window, flags: 2, reference, domain: 77)
    _ = map("map of DOMID_SELF", window, flags: 2, reference, domain: 0x7ff0)
    _ = map("map an entry that grants nothing", window, flags: 2, reference + 1, domain: own)
    _ = map("map an entry that is not there", window, flags: 2, 0xffff_ff00, domain: own)
    grant(reference, frame, 77)
    _ = map("map what is granted to another domain", window, flags: 2, reference, domain: own)
    grant(reference, frame, own, 4)
    _ = map("map writable what is granted read-only", window, flags: 2, reference, domain: own)
    _ = map("map where there is no table", 0x7fff_f000_0000, flags: 6, reference, domain: own)
    ABI.say("the entry's flags", flags(reference))
  }

  static func copies(_ frame: UInt64, _ address: UInt64, _ otherFrame: UInt64, _ other: UInt64) {
    xen_store64(address + 16, 0xabcd)
    copy("copy by frames", (frame, 0x7ff0, 16), (otherFrame, 0x7ff0, 24), 8, 0)
    ABI.say("what arrived", xen_load64(other + 24))
    grant(reference, frame, own, 4)
    grant(reference + 1, otherFrame, own)
    xen_store64(address + 16, 0xef01)
    copy("copy by grants", (reference, own, 16), (reference + 1, own, 4088), 8, 3)
    ABI.say("what arrived", xen_load64(other + 4088))
    copy("copy into a read-only grant", (reference, own, 16), (reference, own, 24), 8, 3)
    copy("copy beyond a page", (reference, own, 4090), (reference + 1, own, 0), 8, 3)
    copy("copy by another domain's frame", (frame, 77, 0), (otherFrame, 0x7ff0, 0), 8, 0)
    copy("copy from another domain's grant", (reference, 77, 0), (otherFrame, 0x7ff0, 0), 8, 1)
    copy("copy from an entry that is not there", (0xffff_ff00, own, 0), (otherFrame, 0x7ff0, 0), 8, 1)
    let root = xen_load64(xen_start(UInt64(XEN_START_PAGE_TABLES))) >> 12 & 0xff_ffff_ffff
    copy("copy into a page table", (frame, 0x7ff0, 0), (root, 0x7ff0, 0), 8, 0)
  }
}
