// Hypercalls about event channels and rest.

import TrivisorBoot
import TrivisorVMM

struct EventCalls: HypercallSubject {
  let call: Hypercall

  /// Virtual interrupts of each processor: timer, debugging, two profilers; all others are the domain's.
  static let interruptsOfProcessors: Set<UInt32> = [0, 1, 7, 13]
  /// The most ports of SCHEDOP_poll.
  static let pollLimit = 128

  private func existing(_ number: UInt32) throws(XenError) -> DomainProcessor {
    guard domain.processors.indices.contains(Int(number)) else { throw .noEntry }
    return domain.processors[Int(number)]
  }

  /// HYPERVISOR_event_channel_op.
  func eventChannelOperation(_ command: UInt64, _ argument: UInt64) throws(XenError) {
    switch command & 0xffff_ffff {
    case 0:
      let port = try bindInterdomain(
        remote: try short(argument), port: try half(argument &+ 4))
      try put(port, argument &+ 8)
    case 1:
      let port = try bindVirtualInterrupt(try half(argument), try half(argument &+ 4))
      try put(port, argument &+ 8)
    case 3:
      let port = try half(argument)
      try domain.close(port)
    case 4: try domain.send(try half(argument))
    case 5: try status(argument)
    case 6:
      guard domain.isSelf(try short(argument)) else { throw .noSuchProcess }
      let remote = try short(argument &+ 2)
      let port = try domain.events.channels.allocate(
        .unbound(remote: remote == Domain.self16 ? Domain.ownNumber : remote))
      try put(port, argument &+ 4)
    case 7:
      let processor = try existing(try half(argument))
      let port = try domain.events.channels.allocate(.interprocessor, processor: processor.number)
      try put(port, argument &+ 4)
    case 8:
      let port = try half(argument)
      let processor = try existing(try half(argument &+ 4))
      switch domain.events.channels[port].binding {
      case .free, .interprocessor: throw .invalid
      case .virtualInterrupt(let number) where Self.interruptsOfProcessors.contains(number): throw .invalid
      default: domain.events.channels.setProcessor(port, processor.number)
      }
    case 9: try domain.events.unmask(try half(argument))
    case 10:
      guard domain.isSelf(try short(argument)) else { throw .noSuchProcess }
      for port in domain.events.channels.channels.indices where domain.events.channels[UInt32(port)].binding != .free {
        try domain.close(UInt32(port))
      }
      domain.events.removeQueues()
    // EVTCHNOP_init_control: the frame, the place in it, the processor; how many bits a link has.
    case 11:
      let (frame, offset) = (try quad(argument), try half(argument &+ 8))
      let processor = try existing(try half(argument &+ 12))
      try domain.events.initialiseQueues(processor.number, frame: frame, offset: offset)
      try put(EventQueues.linkBits, argument &+ 16)
    case 12: try domain.events.addEventWords(try quad(argument))
    case 13: try domain.events.setEventPriority(try half(argument), try half(argument &+ 4))
    default: throw .notImplemented
    }
  }

  /// Two ports of this domain, one of which waits for the other.
  private func bindInterdomain(
    remote: UInt16, port: UInt32
  ) throws(XenError) -> UInt32 {
    guard domain.isSelf(remote) else { throw .noSuchProcess }
    guard domain.events.channels[port].binding == .unbound(remote: Domain.ownNumber) else { throw .invalid }
    let local = try domain.events.channels.allocate(.interdomain(port), processor: processor.number)
    domain.events.channels.bind(port, .interdomain(local), processor: domain.events.channels[port].processor)
    // Whoever bound late has missed what was sent before: the new port is pending.
    domain.events.raise(local)
    return local
  }

  private func bindVirtualInterrupt(_ number: UInt32, _ processorNumber: UInt32) throws(XenError) -> UInt32 {
    guard number < 24, Self.interruptsOfProcessors.contains(number) || processorNumber == 0 else { throw .invalid }
    let processor = try existing(processorNumber)
    guard processor.virtualInterruptPorts[Int(number)] == 0 else { throw .exists }
    let port = try domain.events.channels.allocate(.virtualInterrupt(number), processor: processor.number)
    processor.virtualInterruptPorts[Int(number)] = port
    return port
  }

  /// EVTCHNOP_status: what a port leads to.
  private func status(_ argument: UInt64) throws(XenError) {
    guard domain.isSelf(try short(argument)) else { throw .noSuchProcess }
    let port = try half(argument &+ 4)
    guard domain.events.channels.isValid(port) else { throw .invalid }
    let channel = domain.events.channels[port]
    var words: [UInt32] = [0, 0]
    let kind: UInt32
    switch channel.binding {
    case .free: kind = 0
    case .unbound(let remote): (kind, words[0]) = (1, UInt32(remote))
    case .interdomain(let other): (kind, words) = (2, [UInt32(Domain.ownNumber), other])
    case .console, .store, .disk, .network, .secondConsole: kind = 2
    case .virtualInterrupt(let number): (kind, words[0]) = (4, number)
    case .interprocessor: kind = 5
    }
    try put(kind, argument &+ 8)
    try put(UInt32(channel.processor), argument &+ 12)
    try put(words[0], argument &+ 16)
    if kind == 2 { try put(words[1], argument &+ 20) }
  }

  /// HYPERVISOR_sched_op_compat, the form of before 3.1: SHUTDOWN's reason is the argument itself.
  func scheduleByOldCall() throws(XenError) -> UInt64 {
    switch arguments[0] & 0xffff_ffff {
    case 0, 1: return try schedule(arguments[0], 0)
    case 2:
      domain.end(.shutdown(reason: UInt32(truncatingIfNeeded: arguments[1]) & 0xff))
      return 0
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_sched_op.
  func schedule(_ command: UInt64, _ argument: UInt64) throws(XenError) -> UInt64 {
    switch command & 0xffff_ffff {
    case 0: processor.isYielding = true
    case 1:
      processor.upcallsAreMasked = false
      if !processor.hasPendingUpcall { processor.rest = .blocked }
    case 2:
      let reason = try half(argument) & 0xff
      // Nobody here takes a domain away: it goes on at once, as one whose suspension was cancelled.
      if ShutdownReason(rawValue: reason) == .suspend { return 1 }
      domain.end(.shutdown(reason: reason))
    case 3:
      let (list, count) = (try long(argument), try half(argument &+ layout.wordSize))
      let limit = try quad(argument &+ 2 &* layout.wordSize)
      guard count <= UInt32(Self.pollLimit) else { throw .invalid }
      var ports: [UInt32] = []
      for position in 0..<UInt64(count) { ports.append(try half(list &+ 4 &* position)) }
      // A port that never was one.
      guard ports.allSatisfy({ domain.events.channels.isValid($0) }) else { throw .invalid }
      if ports.contains(where: { domain.events.isPending($0) })
        || processor.hasPendingUpcall && !processor.upcallsAreMasked
      {
        return 0
      }
      processor.rest = .polling(ports: ports, deadline: limit == 0 ? .max : domain.time.hostTime(limit))
    // The reason for which a tool would say that the domain ended; there is none here to ask.
    case 5: _ = try half(argument)
    case 6: return try watch(try half(argument), seconds: try half(argument &+ 4))
    // Only the hardware's own domain may choose its domain.processors.
    case 7: throw .notPermitted
    default: throw .notImplemented
    }
    return 0
  }

  /// SCHEDOP_watchdog: 0 for a new one, whose number is the answer; seconds 0 to stop one.
  private func watch(_ number: UInt32, seconds: UInt32) throws(XenError) -> UInt64 {
    guard number <= Watchdogs.count else { throw .invalid }
    let due = monotonicNanoseconds() &+ UInt64(seconds) &* 1_000_000_000
    guard number > 0 else {
      // Of 32 bits, so that it looks like a number: a slip of Xen's that guests know.
      guard let free = domain.watchdogs.free else { return XenError.noSpace.result & 0xffff_ffff }
      domain.watchdogs[free] = due
      return UInt64(free) + 1
    }
    guard domain.watchdogs[number - 1] != nil else { throw .invalid }
    domain.watchdogs[number - 1] = seconds == 0 ? nil : due
    return 0
  }
}
