// What else a call may be refused for, and what is done that nobody would notice at first.

import CABI
import CPlatform
import CXen

enum DetailTests {
  nonisolated(unsafe) static var scratch: UInt64 = 0

  static func run(_ process: UserProcess) {
    guard let arguments = Platform.allocateFrame(), let page = Platform.allocateFrame(),
      let other = Platform.allocateFrame()
    else { return Console.print("No memory.") }
    scratch = arguments.address
    Platform.activate(process.space)
    processors()
    paging(process.space, page.address, other.address)
    events()
    domain(page.address)
    // Other tests have named other stacks.
    let stack = UInt64(UInt(bitPattern: process.frame)) &+ UInt64(MemoryLayout<TrapFrame>.size)
    ABI.sayResult("stack_switch", xen_hypercall(xenSwitchStack, xenDataSelector, stack, 0, 0))
    selectors(process)
    ioPrivilege(process)
    runStates()
  }

  static func processors() {
    ABI.sayResult("set_debugreg 6 of 33 bits", xen_hypercall(xenSetDebugRegister, 6, 1 << 32, 0, 0))
    ABI.sayResult("set_debugreg 4", xen_hypercall(xenSetDebugRegister, 4, 0, 0, 0))
    ABI.sayResult("set_debugreg 7 with GD", xen_hypercall(xenSetDebugRegister, 7, 1 << 13, 0, 0))
    ABI.sayResult("set_debugreg 0 in Xen's part", xen_hypercall(xenSetDebugRegister, 0, 0xffff_8000_0000_0000, 0, 0))
    ABI.sayResult("set_debugreg 0", xen_hypercall(xenSetDebugRegister, 0, 0x1000, 0, 0))
    ABI.sayResult("get_debugreg 0", xen_hypercall(xenGetDebugRegister, 0, 0, 0, 0))
    ABI.sayResult("get_debugreg 9", xen_hypercall(xenGetDebugRegister, 9, 0, 0, 0))
    ABI.sayResult("set_debugreg 0", xen_hypercall(xenSetDebugRegister, 0, 0, 0, 0))
    ABI.sayResult("unregister the event callback", callback(1, 0))
    ABI.sayResult("register callback 77", callback(0, 77))
    ABI.sayResult("callback_op 5", callback(5, 0))
    xen_store64(scratch, 1 << 62)
    ABI.sayResult("set_periodic_timer of a century", xen_hypercall(xenProcessorOperation, 6, 0, scratch, 0))
    xen_store64(scratch, 0)
    xen_store64(scratch + 8, 4090)
    ABI.sayResult("register_vcpu_info beyond a page", xen_hypercall(xenProcessorOperation, 10, 0, scratch, 0))
    xen_store64(scratch + 8, 4)
    ABI.sayResult("register_vcpu_info, not aligned", xen_hypercall(xenProcessorOperation, 10, 0, scratch, 0))
    ABI.sayResult("vcpu_op 99", xen_hypercall(xenProcessorOperation, 99, 0, scratch, 0))
    ABI.sayResult("vcpu_op of processor 1000", xen_hypercall(xenProcessorOperation, 3, 1000, scratch, 0))
    ABI.sayResult("stack_switch to no address", xen_hypercall(xenSwitchStack, xenDataSelector, 1 << 63, 0, 0))
  }

  static func callback(_ command: UInt64, _ type: UInt64) -> UInt64 {
    xen_store64(scratch, type)
    xen_store64(scratch + 8, 0)
    return xen_hypercall(xenCallbackOperation, command, scratch, 0, 0)
  }

  static func paging(_ space: Platform.AddressSpace, _ page: UInt64, _ other: UInt64) {
    let frame = Platform.machineFrame(page)
    xen_store64(scratch, frame << 12)
    xen_store64(scratch + 8, 0)
    ABI.sayResult("mmu_update for another domain", xen_hypercall(xenUpdatePageTables, scratch, 1, 0, 77))
    ABI.sayResult("with another's tables", xen_hypercall(xenUpdatePageTables, scratch, 1, 0, 99 << 16 | 0x7ff0))
    ABI.sayResult("mmuext_op for another domain", xen_hypercall(xenExtendedPaging, scratch, 1, 0, 77))
    for kind in 3..<8 as Range<UInt64> { ABI.sayResult("mmu_update of a kind of its own", update(frame, kind)) }
    xen_store64(scratch, frame << 12)
    xen_store64(scratch + 16, 0xfff)
    xen_store64(scratch + 24, 1)
    ABI.sayResult("the second of two is wrong", xen_hypercall(xenUpdatePageTables, scratch, 2, scratch + 64, 0x7ff0))
    ABI.say("how many were done", xen_load64(scratch + 64) & 0xffff_ffff)
    ABI.sayResult("mmu_update from nowhere", xen_hypercall(xenUpdatePageTables, 0x7fff_f000, 1, 0, 0x7ff0))
    // More than a hypervisor does at a time, all of them the same: the list is one page, seen at many addresses.
    longBatch(space, page)
    xen_store64(page, 0x1111)
    ABI.sayResult("copy a page", operate(17, Platform.machineFrame(other), frame))
    ABI.say("what arrived", xen_load64(other))
    ABI.sayResult("clear a page", operate(16, Platform.machineFrame(other), 0))
    ABI.say("what is there", xen_load64(other))
    let root = Platform.machineFrame(space.kernel.root.address)
    ABI.sayResult("clear a page table", operate(16, root, 0))
    ABI.sayResult("copy into a page table", operate(17, root, frame))
    ABI.sayResult("copy from nowhere", operate(17, frame, 0xff_ffff_fff0))
    ABI.sayResult("mark a large page", operate(19, frame, 0))
    ABI.sayResult(
      "the same user root again", operate(xenNewUserRoot, Platform.machineFrame(space.user.root.address), 0))
    let directory = space.kernel.directory.address
    let target = Platform.machineFrame(directory) << 12 | 511 * 8
    for bit in [3, 4, 7, 8] as InlineNumbers {
      ABI.sayResult("a directory entry with an odd bit", PagingTests.update(target, frame << 12 | 0x67 | 1 << bit))
    }
    let used = xen_load64(directory)
    ABI.sayResult("one without the user's bit", PagingTests.update(Platform.machineFrame(directory) << 12, used & ~4))
    ABI.say("its lowest bits", xen_load64(directory) & 0x9f)
    ABI.sayResult("a root's entry in Xen's part", PagingTests.update(root << 12 | 256 * 8, used))
    ABI.sayResult("a directory entry for what is no table", PagingTests.update(target, frame << 12 | 0x67))
    ABI.sayResult(
      "a directory entry for itself", PagingTests.update(target, Platform.machineFrame(directory) << 12 | 0x67))
  }

  static func longBatch(_ space: Platform.AddressSpace, _ page: UInt64) {
    guard let list = Platform.allocateFrame() else { return }
    for position in 0..<256 as Range<UInt64> {
      xen_store64(list.address + position * 16, Platform.machineFrame(page) << 12 | 8)
      xen_store64(list.address + position * 16 + 8, 0x2222)
    }
    let start = Platform.windowStart + 0x1000_0000
    for position in 0..<20 as Range<UInt64> {
      guard Platform.map(start + position * 4096, to: list, .kernelOnly, in: space) else { return }
    }
    ABI.sayResult("5000 updates in one call", xen_hypercall(xenUpdatePageTables, start, 5000, scratch + 64, 0x7ff0))
    ABI.say("how many were done", xen_load64(scratch + 64) & 0xffff_ffff)
    ABI.say("what is there", xen_load64(page + 8))
    ABI.sayResult(
      "6000, of which the list has 5120", xen_hypercall(xenUpdatePageTables, start, 6000, scratch + 64, 0x7ff0))
    ABI.say("how many were done", xen_load64(scratch + 64) & 0xffff_ffff)
  }

  static func update(_ frame: UInt64, _ kind: UInt64) -> UInt64 {
    xen_store64(scratch, frame << 12 | kind)
    xen_store64(scratch + 8, 0)
    return xen_hypercall(xenUpdatePageTables, scratch, 1, 0, 0x7ff0)
  }

  static func operate(_ command: UInt64, _ first: UInt64, _ second: UInt64) -> UInt64 {
    xen_store64(scratch, command)
    xen_store64(scratch + 8, first)
    xen_store64(scratch + 16, second)
    return xen_hypercall(xenExtendedPaging, scratch, 1, 0, 0x7ff0)
  }

  static func events() {
    ABI.sayResult("alloc_unbound for another domain", EventTests.operate(6, 77 | 0x7ff0 << 16, answer: 1).result)
    ABI.sayResult("bind_interdomain with another", EventTests.operate(0, 77, 1).result)
    ABI.sayResult("bind_interdomain with port 0", EventTests.operate(0, 0x7ff0, 0).result)
    ABI.sayResult("bind_virq of the domain's, processor 31", EventTests.operate(1, 3, 31).result)
    ABI.sayResult("bind_virq of the timer, processor 31", EventTests.operate(1, 0, 31).result)
    ABI.sayResult("unmask a port that leads nowhere", EventTests.operate(9, 60).result)
    ABI.sayResult("unmask port 100000", EventTests.operate(9, 100_000).result)
    ABI.sayResult("close port 0", EventTests.operate(3, 0).result)
    ABI.sayResult("send to port 0", EventTests.operate(4, 0).result)
    ABI.sayResult("status of port 0", EventTests.operate(5, 0x7ff0, 0).result)
    ABI.sayResult("status of port 100000", EventTests.operate(5, 0x7ff0, 100_000).result)
    ABI.sayResult("status of another domain's", EventTests.operate(5, 77, 1).result)
    ABI.sayResult("reset of another domain", EventTests.operate(10, 77).result)
    ABI.sayResult("bind_vcpu of port 60", EventTests.operate(8, 60, 0).result)
    ABI.sayResult("bind_vcpu, processor 31", EventTests.operate(8, 60, 31).result)
    xen_store64(scratch, scratch + 64)
    xen_store64(scratch + 8, 1)
    xen_store64(scratch + 16, 1)
    xen_store64(scratch + 64, 100_000)
    ABI.sayResult("poll of port 100000", xen_hypercall(xenSchedulerOperation, 3, scratch, 0, 0))
    xen_store64(scratch + 8, 129)
    ABI.sayResult("poll of 129 ports", xen_hypercall(xenSchedulerOperation, 3, scratch, 0, 0))
  }

  static func domain(_ page: UInt64) {
    for number in [0, 2] as InlineNumbers { ABI.sayResult("watchdog, no time", watch(number + 7, 0)) }
    let first = watch(0, 1000)
    ABI.sayResult("watchdog", first)
    ABI.sayResult("another", watch(0, 1000))
    ABI.sayResult("one too many", watch(0, 1000))
    ABI.sayResult("again", watch(1, 500))
    ABI.sayResult("stopped", watch(1, 0))
    ABI.sayResult("stopped again", watch(1, 0))
    ABI.sayResult("the other stopped", watch(2, 0))
    ABI.sayResult("vm_assist, a type that is none", xen_hypercall(xenAssist, 0, 99, 0, 0))
    ABI.sayResult("vm_assist, a command that is none", xen_hypercall(xenAssist, 2, 2, 0, 0))
    ABI.sayResult("vm_assist, page tables", xen_hypercall(xenAssist, 0, 2, 0, 0))
    ABI.sayResult("xen_version, page size", xen_hypercall(xenVersion, 7, 0, 0, 0))
    ABI.sayResult("page size with an argument", xen_hypercall(xenVersion, 7, scratch, 0, 0))
    xen_store64(scratch, 5)
    ABI.sayResult("features of submap 5", xen_hypercall(xenVersion, 6, scratch, 0, 0))
    ABI.sayResult("xen_version 99", xen_hypercall(xenVersion, 99, scratch, 0, 0))
    reservations(page)
  }

  static func watch(_ number: UInt64, _ seconds: UInt64) -> UInt64 {
    xen_store64(scratch, number | seconds << 32)
    return xen_hypercall(xenSchedulerOperation, 6, scratch, 0, 0)
  }

  static func reserve(_ command: UInt64, _ list: UInt64, _ count: UInt64, order: UInt64, domain: UInt64) -> UInt64 {
    xen_store64(scratch, list)
    xen_store64(scratch + 8, count)
    xen_store64(scratch + 16, order)
    xen_store64(scratch + 24, domain)
    return xen_hypercall(xenMemoryOperation, command, scratch, 0, 0)
  }

  /// A page is given back, and another is had for it.
  static func reservations(_ page: UInt64) {
    xen_store64(scratch, 77)
    ABI.sayResult("current_reservation of another domain", xen_hypercall(xenMemoryOperation, 3, scratch, 0, 0))
    ABI.sayResult("memory_op 63", xen_hypercall(xenMemoryOperation, 63, scratch, 0, 0))
    let list = scratch + 64
    xen_store64(list, Platform.machineFrame(page))
    ABI.sayResult("decrease_reservation of another domain", reserve(1, list, 1, order: 0, domain: 77))
    ABI.sayResult("of a list that is nowhere", reserve(1, 0x7fff_f000, 1, order: 0, domain: 0x7ff0))
    ABI.sayResult("no longer mapped", PagingTests.remap(page, 0))
    ABI.sayResult("decrease_reservation", reserve(1, list, 1, order: 0, domain: 0x7ff0))
    ABI.sayResult("again", reserve(1, list, 1, order: 0, domain: 0x7ff0))
    ABI.judge(
      "it can't be mapped",
      Int64(bitPattern: PagingTests.remap(page, xen_load64(list) << 12 | 0x67)) < 0)
    xen_store64(list, (page - UInt64(XEN_VIRTUAL_BASE)) / 4096)
    ABI.sayResult("populate_physmap", reserve(6, list, 1, order: 0, domain: 0x7ff0))
    let frame = xen_load64(list)
    ABI.sayResult("mapped again", PagingTests.remap(page, frame << 12 | 0x67))
    xen_store64(page, 1)
    ABI.judge(
      "the machine-to-physical table knows it",
      xen_load64(0xffff_8000_0000_0000 + frame * 8) == (page - UInt64(XEN_VIRTUAL_BASE)) / 4096)
  }

  /// User mode entered with selectors that can't be loaded.
  static func selectors(_ process: UserProcess) {
    Platform.activate(process.space)
    let frame = process.frame
    for (code, stack) in [(0x1233, 0xe02b), (0xe033, 0x1233), (0xe033, 3), (0xe023, 0xe02b)] as InlinePairs {
      frame.pointee.rip = Platform.windowStart &+ abi_return_address() &- userProgramStart()
      frame.pointee.cs = code
      frame.pointee.ss = stack
      frame.pointee.rflags = 0x202
      frame.pointee.rsp = UserProcess.stackEnd &- 8
      _ = process.run()
      Console.write("iret to \(hexadecimal: code), \(hexadecimal: stack): vector \(hexadecimal: frame.pointee.vector)")
      Console.write(", code \(hexadecimal: frame.pointee.errorCode), cs \(hexadecimal: frame.pointee.cs)")
      Console.print(", ss \(hexadecimal: frame.pointee.ss)")
    }
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.ss = Platform.userDataSelector
  }

  nonisolated(unsafe) static var seen: UInt64 = 0

  /// With the I/O privilege level in the flags, as a bare machine has it.
  static func ioPrivilege(_ process: UserProcess) {
    ABI.sayResult("vm_assist, IOPL", xen_hypercall(xenAssist, 0, 4, 0, 0))
    let frame = process.frame
    for level in 0..<4 as Range<UInt64> {
      frame.pointee.rip = Platform.windowStart &+ abi_return_address() &- userProgramStart()
      frame.pointee.rflags = 0x202 | level << 12
      frame.pointee.rsp = UserProcess.stackEnd &- 8
      _ = process.run()
      ABI.say("flags of user mode", frame.pointee.rflags & 0x7_7700)
    }
    ABI.sayResult("vm_assist, no IOPL", xen_hypercall(xenAssist, 1, 4, 0, 0))
    frame.pointee.rip = Platform.windowStart &+ abi_return_address() &- userProgramStart()
    frame.pointee.rflags = 0x202
    _ = process.run()
    ABI.say("flags of user mode", frame.pointee.rflags & 0x7_7700)
    xen_store64(scratch, 0)
    _ = xen_hypercall(xenPhysicalDevice, xenSetIOPrivilege, scratch, 0, 0)
  }

  /// Where the processor's time went, in memory that the hypervisor writes.
  static func runStates() {
    let area = scratch + 512
    xen_store64(scratch, area)
    ABI.sayResult("register_runstate_memory_area", xen_hypercall(xenProcessorOperation, 5, 0, scratch, 0))
    ABI.say("running", xen_load64(area) & 0xffff_ffff)
    Platform.trapHandler = { _ in }
    let blocked = xen_load64(area + 32)
    let port = EventTests.operate(1, 0, 0)
    _ = EventTests.operate(9, port.answer)
    // A host that is busy may hold the processor until the time is over before it blocks: then once more.
    for _ in 0..<100 where xen_load64(area + 32) &- blocked <= 2_000_000 {
      _ = xen_hypercall(xenSetTimer, Platform.systemTime() &+ 5_000_000, 0, 0, 0)
      _ = xen_hypercall(xenSchedulerOperation, xenSchedulerBlock, 0, 0, 0)
      Platform.disableInterrupts()
      Platform.takeEvents()
    }
    Platform.trapHandler = { ABI.handle($0) }
    _ = EventTests.operate(3, port.answer)
    ABI.say("running", xen_load64(area) & 0xffff_ffff)
    ABI.judge("milliseconds of it were blocked", xen_load64(area + 32) &- blocked > 2_000_000)
    ABI.sayResult("get_runstate_info", xen_hypercall(xenProcessorOperation, 4, 0, scratch + 256, 0))
    ABI.judge("it has been blocked as long", xen_load64(scratch + 256 + 32) == xen_load64(area + 32))
    xen_store64(scratch, 0)
    _ = xen_hypercall(xenProcessorOperation, 5, 0, scratch, 0)
  }
}
