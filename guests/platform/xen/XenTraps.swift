// Traps, user mode and the timer by hypercalls: a table of addresses in the place of the IDT, a flag in shared memory in
// the place of RFLAGS.IF, iret as a call. The stubs are in traps.S.

import CPlatform
import CXen

extension Platform: TrapPlatform {
  nonisolated(unsafe) static var trapHandler: TrapHandler?

  static func enterUser(_ frame: UnsafeMutablePointer<TrapFrame>) {
    let end = UInt64(UInt(bitPattern: frame)) &+ UInt64(MemoryLayout<TrapFrame>.size)
    if end != userTrapStack {
      _ = xen_hypercall(xenSwitchStack, xenDataSelector, end, 0, 0)
      userTrapStack = end
    }
    xen_enter_user(frame)
    switch frame.pointee.vector {
    case trapVectorTimer: XenTimer.acknowledge()
    case trapVectorOverflow: frame.pointee.vector = trapVectorSystemCall
    case trapVectorPageFault:
      // User mode has page tables without the kernel in them, because between the two Xen's hardware has no protection
      // in 64 bits. What the kernel's own tables map there is present, and protected.
      if isKernelAddress(faultAddress) { frame.pointee.errorCode |= 1 }
    default: break
    }
  }

  nonisolated(unsafe) private static var userTrapStack: UInt64 = 0

  private static func isKernelAddress(_ address: UInt64) -> Bool {
    address >= UInt64(XEN_VIRTUAL_BASE) && address < xen_start(UInt64(XEN_START_FRAME_LIST))
  }

  static var userCodeSelector: UInt64 { xenCodeSelector }
  static var userDataSelector: UInt64 { xenDataSelector }

  static var faultAddress: UInt64 { xen_load64(xen_shared_page_address() + UInt64(XEN_INFO_FAULT_ADDRESS)) }

  static func forgetTraps() { _ = xen_hypercall(xenSetTrapTable, 0, 0, 0, 0) }

  static func disableInterrupts() { xen_store8(xen_shared_page_address() + UInt64(XEN_INFO_MASK), 1) }

  static func startTimer(frequency: UInt32) { XenTimer.start(frequency: frequency) }

  static func stopTimer() { XenTimer.stop() }

  static func call(onStack top: UInt64, _ function: @convention(c) () -> Void) { xen_call_on_stack(top, function) }

  /// Every exception goes to its stub, with upcalls masked, as do upcalls and the user's system calls. A kernel of ours
  /// expects to be told from its first instruction on.
  static func registerTraps() {
    mapSharedInfo()
    maskAllEvents()
    withUnsafeTemporaryAllocation(of: XenTrap.self, capacity: 33) { table in
      for vector in 0..<32 as Range<UInt64> {
        // INT3 and INT 4 may come from user mode.
        let privilege: UInt8 = vector == trapVectorBreakpoint || vector == trapVectorOverflow ? 3 : 0
        table[Int(vector)] = XenTrap(
          vector: UInt8(truncatingIfNeeded: vector), flags: privilege | 4,
          selector: UInt16(truncatingIfNeeded: xenCodeSelector), padding: 0, address: xen_trap_stub(vector))
      }
      table[32] = XenTrap(vector: 0, flags: 0, selector: 0, padding: 0, address: 0)
      _ = xen_hypercall(xenSetTrapTable, UInt64(UInt(bitPattern: table.baseAddress)), 0, 0, 0)
    }
    register(xenCallbackEvent, xen_event_address())
    register(xenCallbackSystemCall, xen_system_call_address())
  }

  /// Takes all events, whatever they are.
  static func takeEvents() { XenTimer.acknowledge() }

  private static func register(_ type: UInt64, _ address: UInt64) {
    var callback = XenCallback(
      type: UInt16(truncatingIfNeeded: type), flags: UInt16(truncatingIfNeeded: xenCallbackMasksEvents), padding: 0,
      address: address)
    _ = withUnsafeMutablePointer(to: &callback) {
      xen_hypercall(xenCallbackOperation, 0, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
  }
}

/// The virtual timer: an event channel.
enum XenTimer {
  nonisolated(unsafe) private static var port: UInt32 = 0

  static func start(frequency: UInt32) {
    if port == 0 {
      // VIRQ_TIMER of this processor.
      var request = XenTwoWords(first: 0, second: 0, third: 0, padding: 0)
      _ = withUnsafeMutablePointer(to: &request) {
        xen_hypercall(xenEventChannelOperation, xenBindVirtualInterrupt, UInt64(UInt(bitPattern: $0)), 0, 0)
      }
      port = request.third
      _ = withUnsafeMutablePointer(to: &port) {
        xen_hypercall(xenEventChannelOperation, xenUnmaskEvent, UInt64(UInt(bitPattern: $0)), 0, 0)
      }
    }
    var period = 1_000_000_000 / UInt64(frequency)
    _ = withUnsafeMutablePointer(to: &period) {
      xen_hypercall(xenProcessorOperation, xenStartPeriodicTimer, 0, UInt64(UInt(bitPattern: $0)), 0)
    }
  }

  static func stop() {
    _ = xen_hypercall(xenProcessorOperation, xenStopPeriodicTimer, 0, 0, 0)
    acknowledge()
  }

  /// Takes all events; the timer's is the only one.
  static func acknowledge() {
    let page = xen_shared_page_address()
    xen_store8(page + UInt64(XEN_INFO_PENDING), 0)
    _ = xen_exchange64(page + UInt64(XEN_INFO_SELECTOR), 0)
    for word in 0..<64 as Range<UInt64> { _ = xen_exchange64(page + UInt64(XEN_SHARED_PENDING) + 8 * word, 0) }
  }
}

/// Called by the stubs for every trap that interrupted the kernel itself.
@c(xen_kernel_trap)
func kernelTrap(_ frame: UnsafeMutablePointer<TrapFrame>) {
  if frame.pointee.vector == trapVectorTimer { XenTimer.acknowledge() }
  if let handler = Platform.trapHandler {
    handler(frame)
  } else {
    Platform.report(frame)
    Platform.exit(1)
  }
}

/// Before `main`.
@c(xen_prepare)
func prepare() { Platform.registerTraps() }
