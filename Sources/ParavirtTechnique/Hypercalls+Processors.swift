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

  /// HYPERVISOR_callback_op: register (0) or unregister (1) a callback: type, flags, address.
  func callbackOperation(_ context: HypercallContext) throws(XenError) {
    let (argument, processor) = (context.arguments[1], context.processor)
    guard context.arguments[0] <= 1 else { throw .notImplemented }
    let isWide = layout == .bits64
    let type = try short(argument, context)
    let masks = try short(argument &+ 2, context) & 1 != 0
    var callback = VirtualProcessor.Callback()
    if context.arguments[0] == 0 {
      callback.address = try long(argument &+ 8, context)
      callback.masksUpcalls = masks
    }
    guard isCanonical(callback.address) else { throw .invalid }
    switch type {
    case 0: processor.eventCallback = callback
    case 1: processor.failsafeCallback = callback
    case 2 where isWide: processor.systemCallCallback = callback
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_stack_switch.
  func switchStack(_ context: HypercallContext) throws(XenError) {
    guard isCanonical(context.arguments[1]) else { throw .invalid }
    context.processor.kernelStack = context.arguments[1]
  }

  /// HYPERVISOR_set_segment_base: FS, GS of user mode, GS of the kernel, GS selector of user mode.
  func setSegmentBase(_ context: inout HypercallContext) throws(XenError) {
    guard layout == .bits64 else { throw .notImplemented }
    let base = context.arguments[1]
    guard context.arguments[0] == 3 || isCanonical(base) else { throw .invalid }
    switch context.arguments[0] {
    case 0: context.registers.fsBase = base
    case 1: context.processor.otherGSBase = base
    case 2: context.registers.gsBase = base
    case 3:
      // The null selector and Xen's flat data segment; there are no others.
      guard base & ~3 == 0 || base | 3 == Selectors.data64 else { throw .invalid }
      context.processor.otherGSBase = 0
    default: throw .invalid
    }
  }

  /// HYPERVISOR_set_debugreg: kept, but native execution has no breakpoints to set.
  func setDebugRegister(_ context: HypercallContext) throws(XenError) {
    let (number, value) = (context.arguments[0], context.arguments[1])
    switch number {
    case 0...3:
      guard isCanonical(value) else { throw .notPermitted }
      context.processor.debugRegisters[Int(number)] = value
    case 6: context.processor.debugRegisters[6] = value & 0xffff_efff | 0xffff_0ff0
    case 7:
      guard value & 0xff == 0 else { throw .notImplemented }
      context.processor.debugRegisters[7] = value & 0xffff_2fff | 0x400
    default: throw .noDevice
    }
  }

  func debugRegister(_ context: HypercallContext) throws(XenError) -> UInt64 {
    switch context.arguments[0] {
    case 0...3, 6, 7: return context.processor.debugRegisters[Int(context.arguments[0])]
    case 4: return context.processor.debugRegisters[6]
    case 5: return context.processor.debugRegisters[7]
    default: throw .invalid
    }
  }

  /// HYPERVISOR_set_timer_op: one shot at a system time; 0 for none.
  func setTimer(_ context: HypercallContext) {
    let a = context.arguments
    let due = layout == .bits64 ? a[0] : a[0] | a[1] << 32
    context.processor.timer = due == 0 ? .max : time.hostTime(due)
    context.processor.timerPeriod = 0
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
      guard period >= 1_000_000 else { throw .invalid }
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
    guard offset <= 4096 - 64, offset % 8 == 0,
      processor.info == sharedInfo + 64 * processor.number
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

  /// VCPUOP_initialise: `struct vcpu_guest_context` of 64 bits (arch-x86/xen.h).
  private func initialise(
    _ processor: VirtualProcessor, _ argument: UInt64, _ context: HypercallContext
  ) throws(XenError) {
    guard layout == .bits64 else { throw .notImplemented }
    guard !processor.isInitialised else { throw .exists }
    let bytes = try read(argument, count: 5168, root: context.root)
    func quad(_ offset: Int) -> UInt64 {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    }
    let user = 520
    var registers = UserRegisters()
    registers.r15 = quad(user)
    registers.r14 = quad(user + 8)
    registers.r13 = quad(user + 16)
    registers.r12 = quad(user + 24)
    registers.rbp = quad(user + 32)
    registers.rbx = quad(user + 40)
    registers.r11 = quad(user + 48)
    registers.r10 = quad(user + 56)
    registers.r9 = quad(user + 64)
    registers.r8 = quad(user + 72)
    registers.rax = quad(user + 80)
    registers.rcx = quad(user + 88)
    registers.rdx = quad(user + 96)
    registers.rsi = quad(user + 104)
    registers.rdi = quad(user + 112)
    registers.rip = quad(user + 128)
    registers.rflags = quad(user + 144) & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    registers.rsp = quad(user + 152)
    registers.fsBase = quad(5144)
    guard isCanonical(registers.fsBase), isCanonical(quad(5152)), isCanonical(quad(5160)), isCanonical(registers.rip)
    else { throw .invalid }
    let inKernel: UInt64 = 4
    processor.mode = quad(512) & inKernel != 0 ? .kernel : .user
    registers.gsBase = processor.mode == .kernel ? quad(5152) : quad(5160)
    processor.otherGSBase = processor.mode == .kernel ? quad(5160) : quad(5152)
    let userRoot = quad(4984 + 8) >> 12
    guard processor.mode == .kernel || userRoot != 0 else { throw .invalid }
    try setKernelRoot(quad(4984 + 24) >> 12, processor)
    if userRoot != 0 {
      try tables.getRoot(userRoot)
      processor.userRoot = userRoot
    }
    for vector in 0..<256 {
      let (head, address) = (quad(720 + 16 * vector), quad(720 + 16 * vector + 8))
      processor.traps[vector] = .init(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: isCanonical(address) ? address : 0)
    }
    processor.kernelStack = quad(4976)
    processor.eventCallback = .init(address: quad(5112), masksUpcalls: true)
    processor.failsafeCallback = .init(address: quad(5120), masksUpcalls: quad(512) & 8 != 0)
    processor.systemCallCallback = .init(address: quad(5128), masksUpcalls: quad(512) & 16 != 0)
    processor.start = registers
    processor.isInitialised = true
    // VGCF_online
    processor.isUp = quad(512) & 32 != 0
    processor.doorbell.ring()
  }
}
