// Hypercalls about a virtual processor: where its kernel is entered, its segments and timers, and its siblings.

import Boot
import Sandbox
import VMM

extension Domain {
  /// Entries of vector, flags, code selector, address; the last has address 0.
  func setTrapTable(_ context: HypercallContext) throws(XenError) {
    let (address, processor) = (context.arguments[0], context.processor)
    guard address != 0 else {
      processor.traps = [VirtualProcessor.TrapEntry](repeating: .init(), count: 256)
      return
    }
    let size: UInt64 = layout == .bits64 ? 16 : 8
    for position in 0..<257 as Range<UInt64> {
      let head = try half(address &+ size &* position, context)
      let target = try long(address &+ size &* position &+ size / 2, context)
      guard isCanonical(target) else { throw .invalid }
      guard target != 0 else { return }
      processor.traps[Int(head & 0xff)] = .init(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: target)
    }
    throw .invalid
  }

  func isCanonical(_ address: UInt64) -> Bool { address >> 47 == 0 || address >> 47 == 0x1ffff }

  /// The old form: addresses, with selectors for 32 bits. Upcalls are masked during the failsafe callback.
  func setCallbacks(_ context: HypercallContext) {
    let (a, processor) = (context.arguments, context.processor)
    if layout == .bits64 {
      processor.eventCallback = .init(address: a[0], masksUpcalls: true)
      processor.failsafeCallback = .init(address: a[1])
      processor.systemCallCallback = .init(address: a[2])
    } else {
      processor.eventCallback = .init(address: a[1], masksUpcalls: true)
      processor.failsafeCallback = .init(address: a[3])
    }
  }

  /// CALLBACKTYPE_… (Xen's public header callback.h). `syscall32` (7) is not there: the host does not tell where 32-bit code
  /// executed SYSCALL.
  private enum CallbackType {
    static let event: UInt16 = 0
    static let failsafe: UInt16 = 1
    static let systemCall: UInt16 = 2
    static let systemEntry: UInt16 = 5
  }

  /// HYPERVISOR_callback_op: register (0) or unregister (1) a callback: type, flags, address. Only SYSENTER's can be
  /// unregistered.
  func callbackOperation(_ context: HypercallContext) throws(XenError) {
    let (argument, processor) = (context.arguments[1], context.processor)
    guard context.arguments[0] <= 1 else { throw .notImplemented }
    let isWide = layout == .bits64
    let type = try short(argument, context)
    let isKnown =
      type == CallbackType.event || type == CallbackType.failsafe || type == CallbackType.systemCall && isWide
    guard context.arguments[0] == 0 else {
      if type == CallbackType.systemEntry { return processor.systemEntryCallback = .init() }
      throw isKnown ? .invalid : .notImplemented
    }
    let callback = VirtualProcessor.Callback(
      address: try long(argument &+ 8, context), masksUpcalls: try short(argument &+ 2, context) & 1 != 0)
    guard isCanonical(callback.address) else { throw .invalid }
    switch type {
    case CallbackType.event: processor.eventCallback = callback
    case CallbackType.failsafe: processor.failsafeCallback = callback
    case CallbackType.systemCall where isWide: processor.systemCallCallback = callback
    case CallbackType.systemEntry: processor.systemEntryCallback = callback
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_stack_switch.
  func switchStack(_ context: HypercallContext) {
    context.processor.kernelStack = context.arguments[1]
  }

  /// HYPERVISOR_set_segment_base: FS, GS of user mode, GS of the kernel, GS selector of user mode.
  func setSegmentBase(_ context: inout HypercallContext) throws(XenError) {
    guard layout == .bits64 else { throw .notImplemented }
    let base = context.arguments[1]
    let which = context.arguments[0] & 0xffff_ffff
    guard which == 3 || isCanonical(base) else { throw .invalid }
    switch which {
    case 0: context.registers.fsBase = base
    case 1: context.processor.otherGSBase = base
    case 2: context.registers.gsBase = base
    case 3:
      // A selector that can't be loaded counts as the null selector.
      let segment = dataSegment(UInt16(truncatingIfNeeded: base) | 3, context.processor)
      context.processor.otherGSBase = UInt64(segment?.base ?? 0)
    default: throw .invalid
    }
  }

  /// HYPERVISOR_fpu_taskswitch, CLTS and MOV to CR0: kept and told, but user code can't have #NM of it.
  func setTaskSwitched(_ isSet: Bool, _ processor: VirtualProcessor) {
    processor.isTaskSwitched = isSet
    if isSet { countNotHonoured(.taskSwitched) }
  }

  /// HYPERVISOR_set_debugreg: kept, but native execution has no breakpoints to set.
  func setDebugRegister(_ context: HypercallContext) throws(XenError) {
    let (number, value) = (context.arguments[0], context.arguments[1])
    let processor = context.processor
    switch number {
    case 0...3:
      guard isCanonical(value), !(Self.machineToPhysical..<0xffff_8800_0000_0000).contains(value) else {
        throw .notPermitted
      }
      processor.debugRegisters[Int(number)] = value
      if value != 0 { countNotHonoured(.breakpointAddresses) }
    case 4...7:
      guard number >= 6 || !hasDebuggingExtensions(processor) else { throw .noDevice }
      guard value <= UInt64(UInt32.max) else { throw .invalid }
      if number & 1 == 0 {
        processor.debugRegisters[6] = value & 0xffff_efff | 0xffff_0ff0
        return
      }
      // GD, which traps accesses to the registers themselves; then breakpoints.
      guard value & 1 << 13 == 0 else { throw .notPermitted }
      guard value & 0xff == 0 else { throw .notImplemented }
      processor.debugRegisters[7] = value & 0xffff_2fff | 0x400
    default: throw .noDevice
    }
  }

  /// CR4.DE: DR4 and DR5 are no other names for DR6 and DR7.
  private func hasDebuggingExtensions(_ processor: VirtualProcessor) -> Bool { processor.control4 & 8 != 0 }

  func debugRegister(_ context: HypercallContext) throws(XenError) -> UInt64 {
    switch context.arguments[0] {
    case 0...3, 6, 7: return context.processor.debugRegisters[Int(context.arguments[0])]
    case 4, 5:
      guard !hasDebuggingExtensions(context.processor) else { throw .noDevice }
      return context.processor.debugRegisters[Int(context.arguments[0]) + 2]
    default: throw .noDevice
    }
  }

  /// HYPERVISOR_set_timer_op: one shot at a system time; 0 for none.
  func setTimer(_ context: HypercallContext) {
    let a = context.arguments
    let due = layout == .bits64 ? a[0] : a[0] | a[1] << 32
    context.processor.timer = due == 0 ? .max : time.hostTime(due)
    // Times that are none, or weeks away, come from guests whose arithmetic wraps: they get an event soon.
    if due > 0, due >> 63 != 0 || due > time.now && (due - time.now) >> 50 != 0 {
      context.processor.timer = monotonicNanoseconds() &+ 100_000_000
    }
  }

  /// HYPERVISOR_vcpu_op.
  func processorOperation(_ context: HypercallContext) throws(XenError) -> UInt64 {
    let (command, argument) = (context.arguments[0], context.arguments[2])
    guard context.arguments[1] < UInt64(processors.count) else { throw .noEntry }
    let processor = processors[Int(context.arguments[1])]
    switch command {
    case 0: try initialise(processor, argument, context)
    case 1:
      guard processor.isInitialised else { throw .invalid }
      processor.isUp = true
      processor.doorbell.ring()
    case 2:
      processor.isUp = false
      processor.doorbell.ring()
      guard processors.contains(where: { $0.isUp }) else {
        end(.shutdown(reason: 0))
        return 0
      }
    case 3: return processor.isUp ? 1 : 0
    case 4: try writeRunState(processor, argument, context)
    case 5:
      // `struct vcpu_register_runstate_memory_area`: the address.
      let area = try quad(argument, context)
      processor.runstate.area = area
      try writeRunState(processor, area, context)
    case 6:
      let period = try quad(argument, context)
      // At least a millisecond; at most what Xen can count.
      guard period >= 1_000_000, period <= 1 << 61 else { throw .invalid }
      processor.timerPeriod = period
      processor.timer = monotonicNanoseconds() &+ period
      processor.doorbell.ring()
    case 7:
      processor.timerPeriod = 0
      processor.timer = .max
    case 8:
      guard processor === context.processor else { throw .invalid }
      let due = time.hostTime(try quad(argument, context))
      // VCPU_SSHOTTMR_future is ignored, as Xen 4.17 does.
      processor.timer = due
      processor.timerPeriod = 0
    case 9:
      guard processor === context.processor else { throw .invalid }
      processor.timer = .max
    case 10: try registerInfo(processor, argument, context)
    default: throw .notImplemented
    }
    return 0
  }

  /// Before the guest goes on: what it sees of its times is as new as it is.
  func updateRunState(_ processor: VirtualProcessor) {
    guard processor.runstate.isStale, processor.runstate.area != 0 else { return }
    processor.runstate.isStale = false
    let context = HypercallContext(processor: processor, arguments: [], registers: UserRegisters())
    // The area was the guest's own idea, and may be gone.
    try? writeRunState(processor, processor.runstate.area, context)
  }

  /// `struct vcpu_runstate_info`: state, since when, nanoseconds in each state.
  private func writeRunState(
    _ processor: VirtualProcessor, _ address: UInt64, _ context: HypercallContext
  ) throws(XenError) {
    let now = monotonicNanoseconds()
    var times = processor.runstate.times
    times[Int(processor.runstate.kind.rawValue)] &+= now &- processor.runstate.since
    let offset = layout.wordSize
    try put(processor.runstate.kind.rawValue, address, context)
    try put(processor.runstate.since &- time.start, address &+ offset, context)
    for (position, nanoseconds) in times.enumerated() {
      try put(nanoseconds, address &+ offset &+ 8 &+ 8 &* UInt64(position), context)
    }
  }

  /// VCPUOP_register_vcpu_info: vcpu_info moves to a page of the domain's own, once.
  private func registerInfo(
    _ processor: VirtualProcessor, _ argument: UInt64, _ context: HypercallContext
  ) throws(XenError) {
    let (frame, offset) = (try quad(argument, context), try half(argument &+ 8, context))
    guard offset <= 4096 - 64, offset % UInt32(layout.wordSize) == 0 else { throw .noDeviceOrAddress }
    guard processor.info == sharedInfo + 64 * processor.number, processor === context.processor || !processor.isUp
    else { throw .invalid }
    try tables.getWritable(frame)
    guard let page = frames.bytes(frame) else { throw .invalid }
    let place = page + Int(offset)
    place.copyMemory(from: processor.info, byteCount: 64)
    processor.info = place
    // Everything is looked at again: something may have come while both were there.
    cascade(processor)
  }

  private func cascade(_ processor: VirtualProcessor) {
    let selectors = Int(layout.wordSize)
    (processor.info + layout.selector).initializeMemory(as: UInt8.self, repeating: 0xff, count: selectors)
    setPending(processor)
  }
}
