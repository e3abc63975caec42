// Hypercalls about event channels and rest.

import Boot
import VMM

extension Domain {
  /// Virtual interrupts of each processor: timer, debugging, two profilers; all others are the domain's.
  private static let interruptsOfProcessors: Set<UInt32> = [0, 1, 7, 13]

  private func existing(_ number: UInt32) throws(XenError) -> VirtualProcessor {
    guard processors.indices.contains(Int(number)) else { throw .noEntry }
    return processors[Int(number)]
  }

  /// HYPERVISOR_event_channel_op.
  func eventChannelOperation(_ context: HypercallContext) throws(XenError) {
    let argument = context.arguments[1]
    switch context.arguments[0] {
    case 0:
      let port = try bindInterdomain(
        remote: try short(argument, context), port: try half(argument &+ 4, context), context.processor)
      try put(port, argument &+ 8, context)
    case 1:
      let port = try bindVirtualInterrupt(try half(argument, context), try half(argument &+ 4, context))
      try put(port, argument &+ 8, context)
    case 3:
      let port = try half(argument, context)
      try close(port)
    case 4: try send(try half(argument, context))
    case 5: try status(argument, context)
    case 6:
      guard isSelf(try short(argument, context)) else { throw .noSuchProcess }
      let remote = try short(argument &+ 2, context)
      let port = try channels.allocate(.unbound(remote: remote == Self.self16 ? Self.ownNumber : remote))
      try put(port, argument &+ 4, context)
    case 7:
      let processor = try existing(try half(argument, context))
      let port = try channels.allocate(.interprocessor, processor: processor.number)
      try put(port, argument &+ 4, context)
    case 8:
      let port = try half(argument, context)
      let processor = try existing(try half(argument &+ 4, context))
      switch channels[port].binding {
      case .free, .interprocessor: throw .invalid
      case .virtualInterrupt(let number) where Self.interruptsOfProcessors.contains(number): throw .invalid
      default: channels.setProcessor(port, processor.number)
      }
    case 9: try unmask(try half(argument, context))
    case 10:
      guard isSelf(try short(argument, context)) else { throw .noSuchProcess }
      for port in channels.channels.indices where channels[UInt32(port)].binding != .free { try close(UInt32(port)) }
    // The other ABI (FIFO) is not offered.
    default: throw .notImplemented
    }
  }

  /// Two ports of this domain, one of which waits for the other.
  private func bindInterdomain(
    remote: UInt16, port: UInt32, _ processor: VirtualProcessor
  ) throws(XenError) -> UInt32 {
    guard isSelf(remote) else { throw .noSuchProcess }
    guard channels[port].binding == .unbound(remote: Self.ownNumber) else { throw .invalid }
    let local = try channels.allocate(.interdomain(port), processor: processor.number)
    channels.bind(port, .interdomain(local), processor: channels[port].processor)
    // Whoever bound late has missed what was sent before: the new port is pending.
    raise(local)
    return local
  }

  private func bindVirtualInterrupt(_ number: UInt32, _ processorNumber: UInt32) throws(XenError) -> UInt32 {
    guard number < 24, Self.interruptsOfProcessors.contains(number) || processorNumber == 0 else { throw .invalid }
    let processor = try existing(processorNumber)
    guard processor.virtualInterruptPorts[Int(number)] == 0 else { throw .exists }
    let port = try channels.allocate(.virtualInterrupt(number), processor: processor.number)
    processor.virtualInterruptPorts[Int(number)] = port
    return port
  }

  /// EVTCHNOP_status: what a port leads to.
  private func status(_ argument: UInt64, _ context: HypercallContext) throws(XenError) {
    guard isSelf(try short(argument, context)) else { throw .noSuchProcess }
    let port = try half(argument &+ 4, context)
    guard channels.isValid(port) else { throw .invalid }
    let channel = channels[port]
    var words: [UInt32] = [0, 0]
    let kind: UInt32
    switch channel.binding {
    case .free: kind = 0
    case .unbound(let remote): (kind, words[0]) = (1, UInt32(remote))
    case .interdomain(let other): (kind, words) = (2, [UInt32(Self.ownNumber), other])
    case .console, .store: kind = 2
    case .virtualInterrupt(let number): (kind, words[0]) = (4, number)
    case .interprocessor: kind = 5
    }
    try put(kind, argument &+ 8, context)
    try put(UInt32(channel.processor), argument &+ 12, context)
    try put(words[0], argument &+ 16, context)
    if kind == 2 { try put(words[1], argument &+ 20, context) }
  }

  /// HYPERVISOR_sched_op.
  func schedule(_ context: HypercallContext) throws(XenError) -> UInt64 {
    let (argument, processor) = (context.arguments[1], context.processor)
    switch context.arguments[0] {
    case 0: processor.isYielding = true
    case 1:
      processor.upcallsAreMasked = false
      if !processor.hasPendingUpcall { processor.rest = .blocked }
    case 2: end(.shutdown(reason: try half(argument, context) & 0xff))
    case 3:
      let (list, count) = (try long(argument, context), try half(argument &+ layout.wordSize, context))
      let limit = try quad(argument &+ 2 &* layout.wordSize, context)
      guard count <= 128 else { throw .invalid }
      var ports: [UInt32] = []
      for position in 0..<UInt64(count) { ports.append(try half(list &+ 4 &* position, context)) }
      // A port that never was one.
      guard ports.allSatisfy({ channels.isValid($0) }) else { throw .invalid }
      if ports.contains(where: { isPending($0) }) || processor.hasPendingUpcall && !processor.upcallsAreMasked {
        return 0
      }
      processor.rest = .polling(ports: ports, deadline: limit == 0 ? .max : time.hostTime(limit))
    // The reason for which a tool would say that the domain ended; there is none here to ask.
    case 5: _ = try half(argument, context)
    case 6: return try watch(try half(argument, context), seconds: try half(argument &+ 4, context))
    // Only the hardware's own domain may choose its processors.
    case 7: throw .notPermitted
    default: throw .notImplemented
    }
    return 0
  }

  /// SCHEDOP_watchdog: 0 for a new one, whose number is the answer; seconds 0 to stop one.
  private func watch(_ number: UInt32, seconds: UInt32) throws(XenError) -> UInt64 {
    guard number <= watchdogs.count else { throw .invalid }
    let due = monotonicNanoseconds() &+ UInt64(seconds) &* 1_000_000_000
    guard number > 0 else {
      // Of 32 bits, so that it looks like a number: a slip of Xen's that guests know.
      guard let free = watchdogs.firstIndex(of: nil) else { return XenError.noSpace.result & 0xffff_ffff }
      watchdogs[free] = due
      return UInt64(free) + 1
    }
    guard watchdogs[Int(number) - 1] != nil else { throw .invalid }
    watchdogs[Int(number) - 1] = seconds == 0 ? nil : due
    return 0
  }
}
