// What a paravirtual kernel does in the place of privileged instructions, and whether it worked.

import CPlatform
import CXen

extension Platform {
  /// A line for each: the instruction, the hypercall or the shared word that replaces it, the result.
  static func showReplacements() {
    show("cli, sti", "the mask in vcpu_info", masking())
    show("mov cr3, r", "mmuext_op NEW_BASEPTR", newRoot())
    show("mov mem, pte", "mmu_update", pageTableUpdate())
    show("invlpg", "mmuext_op INVLPG_LOCAL", page(xenInvalidatePage, xen_shared_page_address()))
    show("mov cr0, r", "fpu_taskswitch", taskSwitched())
    show("wrmsr", "set_segment_base", segmentBase())
    show("mov dr0, r", "set_debugreg, get_debugreg", debugRegister())
    show("hlt", "sched_op block", block())
    show("rdtsc", "time in vcpu_info", clock())
    // What got us here: the lines are its proof.
    show("lidt", "set_trap_table", true)
    show("ltr", "stack_switch", true)
    show("iret", "iret", true)
    show("out", "the console", true)
  }

  private static func show(_ instruction: StaticString, _ replacement: StaticString, _ isRight: Bool) {
    Console.write("became   ")
    Console.write(literal: instruction)
    var length = instruction.utf8CodeUnitCount
    while length < 13 {
      write(UInt8(ascii: " "))
      length &+= 1
    }
    Console.write(literal: replacement)
    Console.print(isRight ? ": right effect" : ": no effect")
  }

  private static var maskAddress: UInt64 { xen_shared_page_address() + UInt64(XEN_INFO_MASK) }

  private static func masking() -> Bool {
    xen_store8(maskAddress, 0)
    let isOpen = xen_load8(maskAddress) == 0
    xen_store8(maskAddress, 1)
    return isOpen && xen_load8(maskAddress) == 1
  }

  private static func page(_ command: UInt64, _ argument: UInt64) -> Bool {
    var operation = XenPagingOperation(
      command: UInt32(truncatingIfNeeded: command), padding: 0, first: argument, second: 0)
    return withUnsafeMutablePointer(to: &operation) {
      xen_hypercall(xenExtendedPaging, UInt64(UInt(bitPattern: $0)), 1, 0, 0x7ff0) == 0
    }
  }

  private static func newRoot() -> Bool {
    let space = makeAddressSpace()
    guard let space, let frame = allocateFrame(), map(windowStart, to: frame, .readWrite, in: space) else {
      return false
    }
    xen_store64(frame.address, 0x1234)
    activate(space)
    return xen_load64(windowStart) == 0x1234
  }

  private static func pageTableUpdate() -> Bool {
    guard let space = makeAddressSpace(), let first = allocateFrame(), let second = allocateFrame() else {
      return false
    }
    xen_store64(first.address, 1)
    xen_store64(second.address, 2)
    guard map(windowStart, to: first, .readOnly, in: space) else { return false }
    activate(space)
    let before = xen_load64(windowStart)
    guard map(windowStart, to: second, .readOnly, in: space) else { return false }
    return before == 1 && xen_load64(windowStart) == 2
  }

  private static func taskSwitched() -> Bool {
    _ = xen_hypercall(xenTaskSwitch, 1, 0, 0, 0)
    let isSet = xen_read_cr0() & 8 != 0
    _ = xen_hypercall(xenTaskSwitch, 0, 0, 0, 0)
    return isSet && xen_read_cr0() & 8 == 0
  }

  private static func segmentBase() -> Bool {
    _ = xen_hypercall(xenSetSegmentBase, 0, 0x1234_5678, 0, 0)
    let isSet = xen_read_msr(0xc000_0100) == 0x1234_5678
    _ = xen_hypercall(xenSetSegmentBase, 0, 0, 0, 0)
    return isSet && xen_read_msr(0xc000_0100) == 0
  }

  private static func debugRegister() -> Bool {
    _ = xen_hypercall(xenSetDebugRegister, 0, 0x12_3456, 0, 0)
    let isSet = xen_hypercall(xenGetDebugRegister, 0, 0, 0, 0) == 0x12_3456
    _ = xen_hypercall(xenSetDebugRegister, 0, 0, 0, 0)
    return isSet
  }

  nonisolated(unsafe) private static var ticks: UInt64 = 0

  private static func block() -> Bool {
    let handler = trapHandler
    trapHandler = { if $0.pointee.vector == trapVectorTimer { Platform.ticks &+= 1 } }
    ticks = 0
    // For the event channel; a periodic timer stands still while its processor is blocked.
    startTimer(frequency: 200)
    stopTimer()
    for _ in 0..<3 {
      // Masked until the processor blocks: an event in between would be handled, and then nothing is left to wake it.
      disableInterrupts()
      _ = xen_hypercall(xenSetTimer, systemTime() + 2_000_000, 0, 0, 0)
      _ = xen_hypercall(xenSchedulerOperation, xenSchedulerBlock, 0, 0, 0)
    }
    disableInterrupts()
    trapHandler = handler
    return ticks > 0
  }

  /// Nanoseconds since the hypervisor started (xen.h, `struct vcpu_time_info`).
  static func systemTime() -> UInt64 {
    let place = xen_shared_page_address() + 32
    while true {
      let version = xen_load32(place)
      let ticks = xen_timestamp() &- xen_load64(place + 8)
      let shift = Int8(bitPattern: xen_load8(place + 28))
      let scaled = shift < 0 ? ticks >> UInt64(-Int(shift)) : ticks << UInt64(shift)
      let nanoseconds = scaled.multipliedFullWidth(by: UInt64(xen_load32(place + 24)))
      let time = xen_load64(place + 16) &+ (nanoseconds.high << 32 | nanoseconds.low >> 32)
      if version & 1 == 0, version == xen_load32(place) { return time }
    }
  }

  /// A hundred million ticks of the time-stamp counter: between a hundredth of a second and a second.
  private static func clock() -> Bool {
    let (start, time) = (xen_timestamp(), systemTime())
    while xen_timestamp() &- start < 100_000_000 {}
    let elapsed = systemTime() &- time
    return elapsed > 10_000_000 && elapsed < 1_000_000_000
  }
}
