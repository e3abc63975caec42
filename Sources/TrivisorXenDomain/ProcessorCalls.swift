// Hypercalls about a virtual processor: where its kernel is entered, its segments and timers, and its siblings.

import TrivisorBoot
import TrivisorVMM
import TrivisorX86

struct ProcessorCalls: HypercallSubject {
  let call: Hypercall

  /// Entries of vector, flags, code selector, address; the last has address 0.
  func setTrapTable() throws(XenError) {
    let address = arguments[0]
    guard address != 0 else {
      processor.traps = [DomainProcessor.TrapEntry](repeating: .init(), count: 256)
      return
    }
    let size: UInt64 = layout == .bits64 ? 16 : 8
    for position in 0..<257 as Range<UInt64> {
      let head = try half(address &+ size &* position)
      let target = try long(address &+ size &* position &+ size / 2)
      guard LinearAddress.isCanonical(target) else { throw .invalid }
      guard target != 0 else { return }
      processor.traps[Int(head & 0xff)] = .init(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: target)
    }
    throw .invalid
  }

  /// The old form: addresses, with selectors for 32 bits. Upcalls are masked during the failsafe callback.
  func setCallbacks() {
    let a = arguments
    if layout == .bits64 {
      processor.eventCallback = .init(address: a[0], masksUpcalls: true)
      processor.failsafeCallback = .init(address: a[1])
      processor.systemCallCallback = .init(address: a[2])
    } else {
      processor.eventCallback = .init(address: a[1], masksUpcalls: true)
      processor.failsafeCallback = .init(address: a[3])
    }
  }

  /// CALLBACKTYPE_… (Xen's public header callback.h).
  private enum CallbackType {
    static let event: UInt16 = 0
    static let failsafe: UInt16 = 1
    static let systemCall: UInt16 = 2
    static let nonMaskableInterrupt: UInt16 = 4
    static let systemEntry: UInt16 = 5
    static let systemCall32: UInt16 = 7
  }

  /// HYPERVISOR_callback_op: register (0) or unregister (1) a callback: type, flags, address, of 32 bits with a selector before
  /// it. Only NMI's can be unregistered.
  func callbackOperation() throws(XenError) {
    let argument = arguments[1]
    let isWide = layout == .bits64
    // The 32-bit form of the call has an error of its own for it.
    guard arguments[0] & 0xffff_ffff <= 1 else { throw isWide ? .notImplemented : .invalid }
    let type = try short(argument)
    let flags = try short(argument &+ 2)
    guard arguments[0] & 0xffff_ffff == 0 else {
      switch type {
      case CallbackType.nonMaskableInterrupt: return processor.traps[2] = .init()
      case CallbackType.event, CallbackType.failsafe, CallbackType.systemEntry, CallbackType.systemCall32:
        throw .invalid
      case CallbackType.systemCall where isWide: throw .invalid
      default: throw .notImplemented
      }
    }
    let callback = DomainProcessor.Callback(address: try long(argument &+ 8), masksUpcalls: flags & 1 != 0)
    guard LinearAddress.isCanonical(callback.address) else { throw .invalid }
    switch type {
    case CallbackType.event: processor.eventCallback = callback
    case CallbackType.failsafe: processor.failsafeCallback = callback
    case CallbackType.systemCall where isWide: processor.systemCallCallback = callback
    case CallbackType.systemEntry: processor.systemEntryCallback = callback
    case CallbackType.systemCall32: processor.systemCall32Callback = callback
    case CallbackType.nonMaskableInterrupt: try processor.setInterruptHandler(callback.address)
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_stack_switch.
  func switchStack() {
    processor.kernelStack = arguments[1]
  }

  /// HYPERVISOR_set_segment_base: FS, GS of user mode, GS of the kernel, GS selector of user mode.
  func setSegmentBase() throws(XenError) {
    guard layout == .bits64 else { throw .notImplemented }
    let base = arguments[1]
    let which = arguments[0] & 0xffff_ffff
    guard which == 3 || LinearAddress.isCanonical(base) else { throw .invalid }
    switch which {
    case 0: processor.registers.fsBase = base
    case 1: processor.otherGSBase = base
    case 2: processor.registers.gsBase = base
    case 3:
      processor.loads.loadUserGS(UInt16(truncatingIfNeeded: base))
    default: throw .invalid
    }
  }

  /// HYPERVISOR_set_timer_op: one shot at a system time; 0 for none.
  func setTimer() {
    let a = arguments
    let due = layout == .bits64 ? a[0] : a[0] | a[1] << 32
    processor.timer = due == 0 ? .max : domain.time.hostTime(due)
    // Times that are none, or weeks away, come from guests whose arithmetic wraps: they get an event soon.
    let now = domain.time.now
    if due > 0, due >> 63 != 0 || due > now && (due - now) >> 50 != 0 {
      processor.timer = monotonicNanoseconds() &+ 100_000_000
    }
  }

  /// HYPERVISOR_vcpu_op.
  func processorOperation() throws(XenError) -> UInt64 {
    let (command, argument) = (arguments[0], arguments[2])
    guard arguments[1] < UInt64(domain.processors.count) else { throw .noEntry }
    let processor = domain.processors[Int(arguments[1])]
    switch command {
    case 0: try initialise(processor, argument)
    case 1:
      guard processor.isInitialised else { throw .invalid }
      processor.isUp = true
      processor.doorbell.ring()
    case 2:
      processor.isUp = false
      processor.doorbell.ring()
      guard domain.processors.contains(where: { $0.isUp }) else {
        domain.end(.shutdown(reason: 0))
        return 0
      }
    case 3: return processor.isUp ? 1 : 0
    case 4: try processor.writeRunState(argument, root: root)
    case 5:
      // `struct vcpu_register_runstate_memory_area`: the address, in the domain's own width.
      let area = try long(argument)
      processor.runstate.area = area
      try processor.writeRunState(area, root: root)
    case 6:
      let period = try quad(argument)
      // At least a millisecond; at most what Xen can count.
      guard period >= 1_000_000, period <= 1 << 61 else { throw .invalid }
      processor.timerPeriod = period
      processor.timer = monotonicNanoseconds() &+ period
      processor.doorbell.ring()
    case 7:
      processor.timerPeriod = 0
      processor.timer = .max
    case 8:
      guard processor === call.processor else { throw .invalid }
      let due = domain.time.hostTime(try quad(argument))
      // VCPU_SSHOTTMR_future is ignored, as Xen 4.17 does.
      processor.timer = due
      processor.timerPeriod = 0
    case 9:
      guard processor === call.processor else { throw .invalid }
      processor.timer = .max
    case 10: try registerInfo(processor, argument)
    // VCPUOP_send_nmi.
    case 11:
      guard argument == 0 else { throw .invalid }
      processor.hasPendingInterrupt = true
      processor.doorbell.ring()
    // VCPUOP_get_physid: only a pinned processor of the hardware's own domain has one.
    case 12: throw .invalid
    // VCPUOP_register_vcpu_time_memory_area: a second place for vcpu_time_info.
    case 13:
      processor.timeArea = try long(argument)
      processor.updateTime()
    default: throw .notImplemented
    }
    return 0
  }

  /// VCPUOP_register_vcpu_info: vcpu_info moves to a page of the domain's own, once.
  private func registerInfo(
    _ processor: DomainProcessor, _ argument: UInt64
  ) throws(XenError) {
    let (frame, offset) = (try quad(argument), try half(argument &+ 8))
    guard offset <= 4096 - 64, offset % UInt32(layout.wordSize) == 0 else { throw .noDeviceOrAddress }
    guard processor.info == domain.sharedInfo + 64 * processor.number, processor === call.processor || !processor.isUp
    else { throw .invalid }
    try tables.getWritable(frame)
    guard let page = frames.bytes(frame) else { throw .invalid }
    let place = page + Int(offset)
    place.copyMemory(from: processor.info, byteCount: 64)
    processor.info = place
    // Everything is looked at again: something may have come while both were there.
    cascade(processor)
  }

  private func cascade(_ processor: DomainProcessor) {
    let selectors = Int(layout.wordSize)
    (processor.info + layout.selector).initializeMemory(as: UInt8.self, repeating: 0xff, count: selectors)
    domain.events.setPending(processor)
  }
}
