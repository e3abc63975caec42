// Page tables: what is counted, what is refused, accessed and dirty bits; and calls of several kinds.

import CABI
import CPlatform
import CXen

enum PagingTests {
  static let pinLevel1: UInt64 = 0
  static let unpin: UInt64 = 4
  static let window: UInt64 = 1 << 30

  static func operate(_ command: UInt64, _ argument: UInt64) -> UInt64 {
    var operation = XenPagingOperation(
      command: UInt32(truncatingIfNeeded: command), padding: 0, first: argument, second: 0)
    return withUnsafeMutablePointer(to: &operation) {
      xen_hypercall(xenExtendedPaging, ABI.address($0), 1, 0, 0x7ff0)
    }
  }

  static func update(_ pointer: UInt64, _ value: UInt64) -> UInt64 {
    var request = XenPageTableUpdate(pointer: pointer, value: value)
    return withUnsafeMutablePointer(to: &request) {
      xen_hypercall(xenUpdatePageTables, ABI.address($0), 1, 0, 0x7ff0)
    }
  }

  static func remap(_ address: UInt64, _ value: UInt64) -> UInt64 {
    xen_hypercall(xenUpdateVirtualAddressMapping, address, value, 2, 0)
  }

  static func run() {
    guard let table = Platform.allocateFrame(), let page = Platform.allocateFrame(),
      let space = Platform.makeAddressSpace(),
      let first = Platform.allocateFrame(), Platform.map(window, to: first, .readWrite, in: space)
    else { return Console.print("No memory.") }
    Platform.activate(space)
    let tableFrame = Platform.machineFrame(table.address)
    let pageFrame = Platform.machineFrame(page.address)
    let firstFrame = Platform.machineFrame(first.address)
    ABI.judge(
      "the machine-to-physical table is right",
      xen_load64(0xffff_8000_0000_0000 + tableFrame * 8) == (table.address - UInt64(XEN_VIRTUAL_BASE)) / 4096)
    ABI.sayResult("pin a page that is writable", operate(pinLevel1, tableFrame))
    xen_store64(table.address, pageFrame << 12 | 0x67)
    ABI.sayResult("make it read-only", remap(table.address, tableFrame << 12 | 0x65))
    ABI.sayResult("pin", operate(pinLevel1, tableFrame))
    ABI.sayResult("pin again", operate(pinLevel1, tableFrame))
    ABI.sayResult("pin as another level", operate(1, tableFrame))
    ABI.sayResult("map it writable", remap(table.address, tableFrame << 12 | 0x67))
    ABI.trapCount = 0
    ABI.sayResult("an entry that maps it writable", update(tableFrame << 12 | 8, tableFrame << 12 | 0x67))
    ABI.sayResult("an entry that maps it read-only", update(tableFrame << 12 | 8, tableFrame << 12 | 0x65))
    ABI.sayResult("an entry for a page", update(tableFrame << 12 | 16, pageFrame << 12 | 0x67))
    ABI.judge("it is there", xen_load64(table.address + 16) == pageFrame << 12 | 0x67)
    ABI.sayResult("pin a page that it maps writable", operate(pinLevel1, pageFrame))
    ABI.sayResult("an update of a page that is no table", update(pageFrame << 12, 0))
    ABI.sayResult("unpin", operate(unpin, tableFrame))
    ABI.sayResult("unpin again", operate(unpin, tableFrame))
    ABI.sayResult("map it writable", remap(table.address, tableFrame << 12 | 0x67))
    ABI.sayResult("a root that is none", operate(xenNewRoot, pageFrame))
    ABI.sayResult("a user root that is none", operate(xenNewUserRoot, pageFrame))
    ABI.sayResult("operation 99", operate(99, 0))
    ABI.sayResult("update_va_mapping where there is no table", remap(0x7fff_f000_0000, pageFrame << 12 | 0x67))

    accessed(space, firstFrame)
    writeToTable(space)
  }

  /// Accessed and dirty bits: cleared, set by an access, kept by an update that says so.
  static func accessed(_ space: Platform.AddressSpace, _ frame: UInt64) {
    let entry = xen_load64(space.kernel.addresses.address)
    let machineEntry = Platform.machineFrame(entry) << 12
    func bits() -> UInt64 { xen_load64(entry) & 0x60 }
    ABI.sayResult("clear accessed and dirty", update(machineEntry, frame << 12 | 7))
    _ = operate(xenInvalidatePage, window)
    ABI.say("bits", bits())
    _ = xen_load64(window)
    ABI.say("bits after a load", bits())
    xen_store64(window, 1)
    ABI.say("bits after a store", bits())
    ABI.sayResult("write protect, keeping them", update(machineEntry | 2, frame << 12 | 5))
    ABI.say("bits", bits())
    ABI.sayResult("clear, for reading", update(machineEntry, frame << 12 | 5))
    _ = operate(xenInvalidatePage, window)
    _ = xen_load64(window)
    ABI.say("bits after a load", bits())
    _ = update(machineEntry, frame << 12 | 7)
    _ = operate(xenInvalidatePage, window)
    xen_store64(window, 2)
    ABI.say("bits after a store", bits())
  }

  /// A store of the kernel's own into a page table.
  static func writeToTable(_ space: Platform.AddressSpace) {
    let table = xen_load64(space.kernel.addresses.address)
    ABI.trapCount = 0
    _ = abiStore(table)
    Console.write("a store into a page table: vector \(ABI.trap.vector), code \(hexadecimal: ABI.trap.errorCode)")
    Console.print(", traps \(ABI.trapCount)")
  }

  static func abiStore(_ address: UInt64) -> UInt64 { ABI.attempt(abi_store_address(), address) }
}

enum CallTests {
  static func run() {
    ABI.sayResult("hypercall 63", xen_hypercall(63, 0, 0, 0, 0))
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 32) { entries in
      for index in 0..<32 { entries[index] = 0 }
      entries[0] = xenVersion
      entries[8] = 63
      entries[16] = xenSetSegmentBase
      entries[18] = 0
      entries[19] = 0x1234_5000
      entries[24] = xenProcessorOperation
      entries[26] = xenProcessorIsUp
      entries[27] = 99
      ABI.sayResult("multicall", xen_hypercall(xenMulticall, ABI.address(entries.baseAddress), 4, 0, 0))
      ABI.judge("its first result is a version", entries[1] >> 16 == 4)
      ABI.sayResult("second", entries[9])
      ABI.sayResult("third", entries[17])
      ABI.sayResult("fourth", entries[25])
    }
    ABI.say("FS base", xen_read_msr(0xc000_0100))
    ABI.sayResult("set_segment_base, no address", xen_hypercall(xenSetSegmentBase, 0, 1 << 63, 0, 0))
    ABI.sayResult("set_segment_base 9", xen_hypercall(xenSetSegmentBase, 9, 0, 0, 0))
    _ = xen_hypercall(xenSetSegmentBase, 1, 0x5678_9000, 0, 0)
    ABI.say("user GS base by RDMSR", xen_read_msr(0xc000_0102))
    ABI.sayResult("is_up of itself", xen_hypercall(xenProcessorOperation, xenProcessorIsUp, 0, 0, 0))
    ABI.sayResult("is_up of one that is not there", xen_hypercall(xenProcessorOperation, xenProcessorIsUp, 31, 0, 0))
    ABI.sayResult("up of itself", xen_hypercall(xenProcessorOperation, xenProcessorUp, 0, 0, 0))
    ABI.sayResult(
      "initialise itself",
      xen_hypercall(xenProcessorOperation, xenProcessorInitialise, 0, xen_processor_context_address(), 0))
    var domain: UInt64 = 0x7ff0
    ABI.judge(
      "current_reservation is not empty",
      withUnsafeMutablePointer(to: &domain) {
        Int64(bitPattern: xen_hypercall(xenMemoryOperation, 3, ABI.address($0), 0, 0)) > 100
      })
    ABI.sayResult("yield", xen_hypercall(xenSchedulerOperation, xenSchedulerYield, 0, 0, 0))
    ABI.sayResult("sched_op 99", xen_hypercall(xenSchedulerOperation, 99, 0, 0, 0))
    ABI.sayResult("shutdown with a pointer to nowhere", xen_hypercall(xenSchedulerOperation, 2, 0x7fff_f000, 0, 0))
    ABI.sayResult("stack_switch", xen_hypercall(xenSwitchStack, xenDataSelector, 0x1000, 0, 0))
    ABI.sayResult("set_debugreg 9", xen_hypercall(xenSetDebugRegister, 9, 0, 0, 0))
    ABI.say("get_debugreg 6", xen_hypercall(xenGetDebugRegister, 6, 0, 0, 0) & 0xf)
    ABI.say("get_debugreg 7", xen_hypercall(xenGetDebugRegister, 7, 0, 0, 0))
    ABI.judge("CPUID by its prefix names the hypervisor", abi_hypervisor_name() == 0x566e_6558)
  }
}
