// Event channels and timers.

import CPlatform
import CXen

enum EventTests {
  /// EVTCHNOP_…: the structure's words before, and its word `answer` after.
  static func operate(
    _ command: UInt64, _ first: UInt32, _ second: UInt32 = 0, answer: Int = 2
  ) -> (result: UInt64, answer: UInt32) {
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 8) { words in
      for index in 0..<8 { words[index] = 0 }
      words[0] = first
      words[1] = second
      let result = xen_hypercall(xenEventChannelOperation, command, UInt64(UInt(bitPattern: words.baseAddress)), 0, 0)
      return (result, words[answer])
    }
  }

  static func isPending(_ port: UInt32) -> Bool {
    let word = xen_shared_page_address() + UInt64(XEN_SHARED_PENDING) + UInt64(port / 64) * 8
    return xen_load64(word) >> UInt64(port % 64) & 1 != 0
  }

  nonisolated(unsafe) static var upcalls: UInt64 = 0
  nonisolated(unsafe) static var depth: UInt64 = 0
  nonisolated(unsafe) static var deepest: UInt64 = 0
  nonisolated(unsafe) static var nestedPort: UInt32 = 0

  /// Both words are the domain's own number or DOMID_SELF.
  static let ownDomain: UInt32 = 0x7ff0

  static func run() {
    Platform.trapHandler = { EventTests.handle($0) }
    let waiting = operate(6, ownDomain | ownDomain << 16, answer: 1)
    ABI.sayResult("alloc_unbound", waiting.result)
    let bound = operate(0, ownDomain, waiting.answer)
    ABI.sayResult("bind_interdomain with itself", bound.result)
    ABI.judge("the new port is pending", isPending(bound.answer))
    ABI.sayResult("bind_interdomain once more", operate(0, ownDomain, waiting.answer).result)
    Platform.takeEvents()
    ABI.sayResult("send", operate(4, waiting.answer).result)
    ABI.judge("the other end is pending", isPending(bound.answer))
    ABI.judge("this end is not", !isPending(waiting.answer))
    ABI.judge("a masked port makes no upcall pending", xen_load8(xen_shared_page_address()) == 0)
    ABI.sayResult("unmask", operate(9, bound.answer).result)
    ABI.judge("unmasking a pending port makes an upcall pending", xen_load8(xen_shared_page_address()) == 1)
    upcalls = 0
    allow()
    ABI.say("upcalls when the mask goes", upcalls)
    ABI.say("status of the port", UInt64(operate(5, ownDomain, bound.answer).answer))
    let processor = operate(7, 0, answer: 1)
    ABI.sayResult("bind_ipi", processor.result)
    ABI.say("status of it", UInt64(operate(5, ownDomain, processor.answer).answer))
    ABI.sayResult("unmask", operate(9, processor.answer).result)
    ABI.sayResult("send to itself", operate(4, processor.answer).result)
    upcalls = 0
    allow()
    ABI.say("upcalls", upcalls)
    // The second comes while the first is handled.
    nestedPort = processor.answer
    (upcalls, deepest) = (0, 0)
    _ = operate(4, waiting.answer)
    allow()
    nestedPort = 0
    ABI.say("upcalls, one within the other", upcalls)
    ABI.say("the deepest", deepest)
    ABI.sayResult("bind_ipi for a processor that is not there", operate(7, 77, answer: 1).result)
    ABI.sayResult("close", operate(3, processor.answer).result)
    ABI.sayResult("close again", operate(3, processor.answer).result)
    ABI.sayResult("send to nowhere", operate(4, processor.answer).result)
    ABI.say("status of it", UInt64(operate(5, ownDomain, processor.answer).answer))
    ABI.sayResult("close one end", operate(3, waiting.answer).result)
    ABI.say("status of the other", UInt64(operate(5, ownDomain, bound.answer).answer))
    ABI.sayResult("bind_virq 99", operate(1, 99, 0).result)
    ABI.sayResult("operation 99", operate(99, 0).result)
    _ = operate(3, bound.answer)
    Platform.trapHandler = { ABI.handle($0) }
  }

  /// Opens the mask and lets the hypervisor look.
  static func allow() {
    xen_store8(ABI.mask, 0)
    _ = xen_hypercall(xenVersion, 0, 0, 0, 0)
    xen_store8(ABI.mask, 1)
  }

  static func handle(_ frame: UnsafeMutablePointer<TrapFrame>) {
    guard frame.pointee.vector == trapVectorTimer else { return ABI.handle(frame) }
    upcalls &+= 1
    depth &+= 1
    if depth > deepest { deepest = depth }
    if nestedPort != 0 {
      let port = nestedPort
      nestedPort = 0
      _ = operate(4, port)
      allow()
    }
    depth &-= 1
  }
}

enum TimerTests {
  nonisolated(unsafe) static var ticks: UInt64 = 0
  /// Xen takes timers that are due within 50 microseconds for due.
  static let slack: UInt64 = 60_000

  static func run() {
    Platform.trapHandler = {
      if $0.pointee.vector == trapVectorTimer { TimerTests.ticks &+= 1 } else { ABI.handle($0) }
    }
    let port = EventTests.operate(1, 0, 0)
    ABI.sayResult("bind_virq of the timer", port.result)
    ABI.sayResult("bind_virq of the timer again", EventTests.operate(1, 0, 0).result)
    ABI.sayResult("bind_vcpu of the timer", EventTests.operate(8, port.answer, 0).result)
    ABI.say("status of it", UInt64(EventTests.operate(5, EventTests.ownDomain, port.answer).answer))
    _ = EventTests.operate(9, port.answer)
    let start = Platform.systemTime()
    ABI.sayResult("set_timer_op", xen_hypercall(xenSetTimer, start &+ 3_000_000, 0, 0, 0))
    ticks = 0
    ABI.sayResult("block", xen_hypercall(xenSchedulerOperation, xenSchedulerBlock, 0, 0, 0))
    ABI.judge("the mask is open after it", xen_load8(ABI.mask) == 0)
    Platform.disableInterrupts()
    ABI.say("ticks", ticks)
    ABI.judge("not before its time", Platform.systemTime() &+ slack >= start &+ 3_000_000)
    var deadline = (time: Platform.systemTime() &+ 2_000_000, flags: UInt64(0))
    ABI.sayResult(
      "set_singleshot_timer",
      withUnsafeMutablePointer(to: &deadline) { xen_hypercall(xenProcessorOperation, 8, 0, ABI.address($0), 0) })
    _ = xen_hypercall(xenSchedulerOperation, xenSchedulerBlock, 0, 0, 0)
    Platform.disableInterrupts()
    ABI.say("ticks", ticks)
    var poll = (ports: UInt64(0), count: UInt64(1), time: Platform.systemTime() &+ 2_000_000)
    var ports = port.answer
    withUnsafeMutablePointer(to: &ports) { poll.ports = ABI.address($0) }
    ABI.sayResult(
      "poll until a time",
      withUnsafeMutablePointer(to: &poll) { xen_hypercall(xenSchedulerOperation, 3, ABI.address($0), 0, 0) })
    ABI.judge("not before it", Platform.systemTime() &+ slack >= poll.time)
    deadline = (1, 1)
    ABI.sayResult(
      "set_singleshot_timer in the past, to be refused",
      withUnsafeMutablePointer(to: &deadline) { xen_hypercall(xenProcessorOperation, 8, 0, ABI.address($0), 0) })
    var period: UInt64 = 1
    ABI.sayResult(
      "set_periodic_timer of a nanosecond",
      withUnsafeMutablePointer(to: &period) { xen_hypercall(xenProcessorOperation, 6, 0, ABI.address($0), 0) })
    let early = Platform.systemTime()
    let late = Platform.systemTime()
    ABI.judge("system time goes forward", late >= early)
    _ = EventTests.operate(3, port.answer)
    Platform.trapHandler = { ABI.handle($0) }
  }
}
