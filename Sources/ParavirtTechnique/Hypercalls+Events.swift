// Hypercalls about event channels and rest.

import Boot
import VMM

extension Domain {
  private static let self16: UInt16 = 0x7ff0
  private static let ownNumber: UInt16 = 1
  private static let timerInterrupt: UInt32 = 0

  private func isSelf(_ domain: UInt16) -> Bool { domain == Self.self16 || domain == Self.ownNumber }

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
      guard isSelf(try short(argument, context)) else { throw .notPermitted }
      let remote = try short(argument &+ 2, context)
      let port = try channels.allocate(.unbound(remote: remote))
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
      case .virtualInterrupt(let number) where number == Self.timerInterrupt: throw .invalid
      default: channels.setProcessor(port, processor.number)
      }
    case 9: try unmask(try half(argument, context))
    case 10:
      guard isSelf(try short(argument, context)) else { throw .notPermitted }
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
    guard case .unbound(let expected) = channels[port].binding, isSelf(expected) else { throw .invalid }
    let local = try channels.allocate(.interdomain(port), processor: processor.number)
    channels.bind(port, .interdomain(local), processor: channels[port].processor)
    // Whoever bound late has missed what was sent before: the new port is pending.
    raise(local)
    return local
  }

  private func bindVirtualInterrupt(_ number: UInt32, _ processorNumber: UInt32) throws(XenError) -> UInt32 {
    guard number < 24 else { throw .invalid }
    let processor = try existing(processorNumber)
    // The timer, debugging and the profiler are per processor; all others belong to the first.
    guard [0, 1, 7].contains(number) || processor.number == 0 else { throw .invalid }
    guard processor.virtualInterruptPorts[Int(number)] == 0 else { throw .exists }
    let port = try channels.allocate(.virtualInterrupt(number), processor: processor.number)
    processor.virtualInterruptPorts[Int(number)] = port
    return port
  }

  /// EVTCHNOP_status: what a port leads to.
  private func status(_ argument: UInt64, _ context: HypercallContext) throws(XenError) {
    guard isSelf(try short(argument, context)) else { throw .notPermitted }
    let port = try half(argument &+ 4, context)
    guard port > 0, Int(port) < max(channels.channels.count, 1) else { throw .invalid }
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
  func schedule(_ context: HypercallContext) throws(XenError) {
    let (argument, processor) = (context.arguments[1], context.processor)
    switch context.arguments[0] {
    case 0: processor.isYielding = true
    case 1:
      processor.upcallsAreMasked = false
      if !processor.hasPendingUpcall { processor.rest = .blocked }
    case 2: end(.shutdown(reason: try half(argument, context)))
    case 3:
      let (list, count) = (try long(argument, context), try half(argument &+ layout.wordSize, context))
      let limit = try quad(argument &+ 2 &* layout.wordSize, context)
      guard count <= 128 else { throw .invalid }
      var ports: [UInt32] = []
      for position in 0..<UInt64(count) { ports.append(try half(list &+ 4 &* position, context)) }
      guard ports.allSatisfy({ $0 < layout.portLimit }) else { throw .invalid }
      if ports.contains(where: { isPending($0) }) { return }
      processor.rest = .polling(ports: ports, deadline: limit == 0 ? .max : time.hostTime(limit))
    default: throw .notImplemented
    }
  }
}
