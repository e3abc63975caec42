// Ways to a page table, or a table of descriptors, that the guest can write to.

import CAttack
import CPlatform
import CXen

enum TableAttack {
  nonisolated(unsafe) static var scratch: UInt64 = 0

  static func isRefused(_ what: StaticString, _ result: UInt64) {
    Attack.judge(what, Int64(bitPattern: result) < 0)
  }

  static func remap(_ address: UInt64, _ bits: UInt64) -> UInt64 {
    xen_hypercall(xenUpdateVirtualAddressMapping, address, Platform.machineFrame(address) << 12 | bits, 2, 0)
  }

  static func operate(_ command: UInt64, _ first: UInt64, _ second: UInt64) -> UInt64 {
    xen_store64(scratch, command)
    xen_store64(scratch + 8, first)
    xen_store64(scratch + 16, second)
    return xen_hypercall(xenExtendedPaging, scratch, 1, 0, 0x7ff0)
  }

  static func update(_ place: UInt64, _ value: UInt64) -> UInt64 {
    xen_store64(scratch, place)
    xen_store64(scratch + 8, value)
    return xen_hypercall(xenUpdatePageTables, scratch, 1, 0, 0x7ff0)
  }

  static func run() {
    guard let arguments = Platform.allocateFrame(), let table = Platform.allocateFrame(),
      let page = Platform.allocateFrame(), let space = Platform.makeAddressSpace(),
      Platform.map(Platform.windowStart, to: page, .readWrite, in: space)
    else { return }
    Platform.activate(space)
    scratch = arguments.address
    let frame = Platform.machineFrame(table.address)
    isRefused("a writable page as a page table", operate(0, frame, 0))
    Attack.judge("a protected one is none", remap(table.address, 0x65) == 0 && operate(0, frame, 0) == 0)
    isRefused("writable again", remap(table.address, 0x67))
    isRefused("writable by its own entry", update(frame << 12, frame << 12 | 0x67))
    isRefused("as a table of another level", operate(1, frame, 0))
    isRefused("as a root", operate(5, frame, 0))
    isRefused("cleared", operate(16, frame, 0))
    isRefused("copied over", operate(17, frame, Platform.machineFrame(page.address)))
    isRefused("a descriptor written into it", xen_hypercall(xenUpdateDescriptor, frame << 12, 0, 0, 0))
    xen_store64(scratch, frame)
    isRefused("as a table of descriptors", xen_hypercall(xenSetDescriptorTable, scratch, 512, 0, 0))
    xen_store64(scratch + 8, 0)
    isRefused("as vcpu_info", xen_hypercall(xenProcessorOperation, 10, 0, scratch, 0))
    isRefused("as where a version is written", xen_hypercall(xenVersion, 1, table.address, 0, 0))
    isRefused("as where run states are written", xen_hypercall(xenProcessorOperation, 4, 0, table.address, 0))
    xen_store64(scratch, scratch + 64)
    xen_store64(scratch + 8, 1)
    xen_store64(scratch + 16, 0)
    xen_store64(scratch + 24, 0x7ff0)
    xen_store64(scratch + 64, frame)
    Attack.judge("given back", xen_hypercall(xenMemoryOperation, 1, scratch, 0, 0) == 0)
    grants(frame, Platform.machineFrame(page.address))
    // What the guest stores there itself is checked like any other change.
    Attack.trapCount = 0
    attack_store(table.address, frame << 12 | 0x67)
    Attack.judge("a store of what would map it writable faults", Attack.trapCount == 1)
    var isEmpty = true
    for offset in 0..<512 as Range<UInt64> where xen_load64(table.address + offset * 8) != 0 { isEmpty = false }
    Attack.judge("the table is as it was", isEmpty)
    information(page.address)
  }

  /// It grants itself the table, to map it writable or copy into it.
  static func grants(_ table: UInt64, _ page: UInt64) {
    for offset in 0..<8 as Range<UInt64> { xen_store64(scratch + offset * 8, 0) }
    xen_store64(scratch, 0x7ff0 | 1 << 32)
    xen_store64(scratch + 16, scratch + 64)
    guard xen_hypercall(xenGrantTable, 2, scratch, 1, 0) == 0, let place = Platform.allocateFrame() else { return }
    _ = xen_hypercall(xenUpdateVirtualAddressMapping, place.address, xen_load64(scratch + 64) << 12 | 0x67, 2, 0)
    for domain in 0..<2 as Range<UInt64> {
      xen_store64(place.address + 8, table << 32 | domain << 16 | 1)
      xen_store64(scratch, Platform.windowStart)
      xen_store64(scratch + 8, 2 | 1 << 32)
      xen_store64(scratch + 16, domain)
      _ = xen_hypercall(xenGrantTable, 0, scratch, 1, 0)
      Attack.judge("mapped writable by a grant", xen_load64(scratch + 16) >> 16 & 0x8000 != 0)
    }
    xen_store64(scratch, page)
    xen_store64(scratch + 8, 0x7ff0)
    xen_store64(scratch + 16, table)
    xen_store64(scratch + 24, 0x7ff0)
    xen_store64(scratch + 32, 8)
    _ = xen_hypercall(xenGrantTable, 5, scratch, 1, 0)
    Attack.judge("copied into by grants", xen_load64(scratch + 32) >> 32 & 0x8000 != 0)
  }

  /// Where the monitor writes by itself no page table can come into being. The last of all: the mask moves there, too.
  static func information(_ page: UInt64) {
    xen_store64(scratch, Platform.machineFrame(page))
    xen_store64(scratch + 8, 0)
    Attack.judge("vcpu_info in a page of the guest's", xen_hypercall(xenProcessorOperation, 10, 0, scratch, 0) == 0)
    _ = remap(page, 0x65)
    for level in 0..<4 as Range<UInt64> {
      isRefused("the page as a page table", operate(level, Platform.machineFrame(page), 0))
    }
  }

  /// A page becomes a table and an ordinary page again while another processor writes to it, which it may still believe
  /// to be allowed.
  static func stale() {
    guard Platform.processorCount > 1, let arguments = Platform.allocateFrame(), let table = Platform.allocateFrame()
    else {
      Console.print("This needs two processors.")
      Platform.exit(2)
    }
    scratch = arguments.address
    target = table.address
    Platform.trapHandler = { $0.pointee.rip &+= 2 }
    Platform.startOtherProcessors { _ in
      Platform.registerTraps()
      attack_store_loop(TableAttack.target)
    }
    let frame = Platform.machineFrame(target)
    while xen_load64(target) == 0 { Platform.pause() }
    var changes: UInt64 = 0
    var last: UInt64 = 0
    for _ in 0..<300 {
      guard remap(target, 0x65) == 0, operate(0, frame, 0) == 0 else {
        Console.print("It can't be made a page table.")
        Platform.exit(1)
      }
      let before = xen_load64(target)
      if before != last { changes &+= 1 }
      for _ in 0..<100 {
        Platform.pause()
        if xen_load64(target) != before { Attack.judge("a page table does not change", false) }
      }
      last = before
      _ = operate(4, frame, 0)
      _ = remap(target, 0x67)
      let now = Platform.systemTime()
      while Platform.systemTime() &- now < 200_000 { Platform.pause() }
    }
    Attack.judge("a page table does not change", true)
    Attack.judge("an ordinary page does", changes > 0)
    Platform.exit(0)
  }

  nonisolated(unsafe) static var target: UInt64 = 0

  static func descriptors() {
    guard let arguments = Platform.allocateFrame(), let table = Platform.allocateFrame() else { return }
    scratch = arguments.address
    let (frame, place) = (Platform.machineFrame(table.address), table.address)
    // A task state segment, a gate to level 0 of Xen's, a 64-bit interrupt gate.
    for bad in [0x0000_8900_0000_0067, 0x0000_ec00_e008_1000, 0x0000_8e00_e033_0000] as InlineNumbers {
      xen_store64(place + 8, bad)
      _ = remap(place, 0x65)
      xen_store64(scratch, frame)
      isRefused("set_gdt with a bad descriptor", xen_hypercall(xenSetDescriptorTable, scratch, 512, 0, 0))
      isRefused("update_descriptor with one", xen_hypercall(xenUpdateDescriptor, frame << 12 | 16, bad, 0, 0))
      _ = remap(place, 0x67)
    }
    // Code of level 0.
    xen_store64(place + 8, 0x00af_9b00_0000_ffff)
    isRefused("set_gdt of a writable page", xen_hypercall(xenSetDescriptorTable, scratch, 512, 0, 0))
    _ = remap(place, 0x65)
    Attack.judge("set_gdt", xen_hypercall(xenSetDescriptorTable, scratch, 512, 0, 0) == 0)
    Attack.judge("no level below the guest's is left", xen_load64(place + 8) >> 45 & 3 == 3)
    isRefused("the table writable", remap(place, 0x67))
    isRefused("an update as of a page table", update(frame << 12, 0x0000_8900_0000_0067))
    Attack.trapCount = 0
    attack_store(place, 0x0000_8900_0000_0067)
    Attack.judge("a store into it faults", Attack.trapCount == 1 && xen_load64(place) == 0)
  }
}
