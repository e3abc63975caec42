// Descriptor tables of the guest's own: what is refused, what is made of descriptors, and segments with a base.

import CABI
import CPlatform
import CXen

enum DescriptorTests {
  /// Present segments of level 0, flat: code of 64 and of 32 bits, data; data of 256 bytes at an address.
  static let code64: UInt64 = 0x00af_9b00_0000_ffff
  static let code32: UInt64 = 0x00cf_9b00_0000_ffff
  static let data: UInt64 = 0x00cf_9300_0000_ffff

  static func data(at base: UInt64) -> UInt64 {
    0x0040_9300_0000_00ff | (base & 0xff_ffff) << 16 | (base >> 24) << 56
  }

  static func update(_ address: UInt64, _ descriptor: UInt64) -> UInt64 {
    xen_hypercall(xenUpdateDescriptor, address, descriptor, 0, 0)
  }

  static func load(_ what: StaticString, _ selector: UInt64) {
    ABI.trapCount = 0
    _ = ABI.attempt(abi_load_fs_address(), selector)
    Console.write(literal: what)
    if ABI.trapCount > 0 {
      return Console.print(": vector \(ABI.trap.vector), code \(hexadecimal: ABI.trap.errorCode)")
    }
    Console.print(": base \(hexadecimal: xen_read_msr(0xc000_0100))")
  }

  static func run() {
    guard let table = Platform.allocateFrame(), let list = Platform.allocateFrame(),
      let local = Platform.allocateFrame(),
      let page = Platform.allocateFrame()
    else { return Console.print("No memory.") }
    let frame = Platform.machineFrame(table.address)
    let entry = table.address
    xen_store64(list.address, frame)
    // Entries that no process of a host has in its own table.
    xen_store64(entry + 20 * 8, code64)
    xen_store64(entry + 21 * 8, data)
    xen_store64(entry + 22 * 8, data(at: 0x1234_5000))
    xen_store64(entry + 23 * 8, data(at: 0x1234_5000) & ~(1 << 47))
    ABI.sayResult("set_gdt of a page that is writable", xen_hypercall(xenSetDescriptorTable, list.address, 512, 0, 0))
    ABI.sayResult("make it read-only", PagingTests.remap(entry, frame << 12 | 0x65))
    ABI.sayResult("set_gdt", xen_hypercall(xenSetDescriptorTable, list.address, 512, 0, 0))
    ABI.say("code", xen_load64(entry + 20 * 8))
    ABI.say("data", xen_load64(entry + 21 * 8))
    ABI.say("data with a base", xen_load64(entry + 22 * 8))
    ABI.say("what is not present", xen_load64(entry + 23 * 8))
    ABI.sayResult("map it writable", PagingTests.remap(entry, frame << 12 | 0x67))
    ABI.sayResult("pin it as a page table", PagingTests.operate(PagingTests.pinLevel1, frame))
    ABI.sayResult("mmu_update of it", PagingTests.update(frame << 12 | 8, 0))
    ABI.sayResult("update_descriptor", update(frame << 12 | 24 * 8, code32))
    ABI.say("code of 32 bits", xen_load64(entry + 24 * 8))
    ABI.sayResult("a task state segment", update(frame << 12 | 25 * 8, 0x0000_8900_0000_0067))
    ABI.sayResult("an interrupt gate", update(frame << 12 | 25 * 8, 0x0040_8e00_e033_0000))
    ABI.sayResult("a call gate", update(frame << 12 | 25 * 8, 0x0040_ec00_e033_1000))
    ABI.say("what became of it", xen_load64(entry + 25 * 8))
    ABI.sayResult("a call gate to Xen's own segment", update(frame << 12 | 26 * 8, 0x0040_ec00_e008_1000))
    ABI.sayResult("not at a descriptor's address", update(frame << 12 | 26 * 8 + 4, data))
    ABI.sayResult("in an ordinary page", update(Platform.machineFrame(page.address) << 12 | 64, data))
    ABI.say("it is there", xen_load64(page.address + 64))
    let root = xen_load64(xen_start(UInt64(XEN_START_PAGE_TABLES))) >> 12 & 0xff_ffff_ffff
    ABI.sayResult("in a page table", update(root << 12 | 511 * 8, data))
    load("FS from it", 22 * 8 | 3)
    load("flat", 21 * 8 | 3)
    load("code", 20 * 8 | 3)
    load("not present", 23 * 8 | 3)
    load("an empty entry", 30 * 8 | 3)
    load("a call gate", 25 * 8 | 3)
    load("beyond the table", 600 * 8 | 3)
    load("the null selector", 0)
    locals(local.address)
    ABI.sayResult("set_gdt, too long", xen_hypercall(xenSetDescriptorTable, list.address, 7169, 0, 0))
    ABI.sayResult("set_gdt from nowhere", xen_hypercall(xenSetDescriptorTable, 0x7fff_f000, 512, 0, 0))
    ABI.sayResult("set_gdt of nothing", xen_hypercall(xenSetDescriptorTable, list.address, 0, 0, 0))
    ABI.sayResult("map it writable", PagingTests.remap(entry, frame << 12 | 0x67))
    xen_store64(entry, 0x0000_8900_0000_0067)
    _ = PagingTests.remap(entry, frame << 12 | 0x65)
    ABI.sayResult("set_gdt with a task state segment", xen_hypercall(xenSetDescriptorTable, list.address, 512, 0, 0))
    ABI.sayResult("a GS selector that can't be loaded", xen_hypercall(xenSetSegmentBase, 3, 0x4242, 0, 0))
  }

  static func locals(_ address: UInt64) {
    xen_store64(address + 40 * 8, data(at: 0x6789_a000))
    _ = PagingTests.remap(address, Platform.machineFrame(address) << 12 | 0x65)
    load("a local segment without a table", 40 * 8 | 7)
    ABI.sayResult("set_ldt, 8193 entries", set(address, 8193))
    ABI.sayResult("set_ldt, not at a page", set(address + 8, 512))
    ABI.sayResult("set_ldt", set(address, 512))
    load("a local segment", 40 * 8 | 7)
    ABI.sayResult("set_ldt of nothing", set(0, 0))
    load("a local segment without a table", 40 * 8 | 7)
  }

  static func set(_ address: UInt64, _ count: UInt64) -> UInt64 {
    var operation = XenPagingOperation(command: 13, padding: 0, first: address, second: count)
    return withUnsafeMutablePointer(to: &operation) {
      xen_hypercall(xenExtendedPaging, ABI.address($0), 1, 0, 0x7ff0)
    }
  }
}
