import TrivisorBoot
import TrivisorVMM

/// What is behind the ports of a domain's event channels: other ports, virtual interrupts, our ends of its devices; and what these
/// have for it meanwhile.
extension Domain {
  /// EVTCHNOP_close: the port leads nowhere, and nothing is pending there.
  func close(_ port: UInt32) throws(XenError) {
    switch events.channels[port].binding {
    case .free: throw .invalid
    case .interdomain(let other):
      events.channels.bind(other, .unbound(remote: Self.ownNumber), processor: events.channels[other].processor)
    case .virtualInterrupt(let number):
      for processor in processors where processor.virtualInterruptPorts[Int(number)] == port {
        processor.virtualInterruptPorts[Int(number)] = 0
      }
    case .disk(let index): DiskService(domain: self).disconnect(index)
    case .network(let index): NetworkService(domain: self).disconnect(index)
    case .secondConsole: ConsoleService(domain: self).disconnect()
    default: break
    }
    events.release(port)
  }

  /// EVTCHNOP_send.
  func send(_ port: UInt32) throws(XenError) {
    switch events.channels[port].binding {
    case .store:
      serveStore()
    case .console:
      // Told only when something moved: a domain that notifies us for every notification would never rest.
      let hasMoved = console.drain()
      console.offerRoom()
      if console.takeInput() || hasMoved { events.raise(port) }
    case .disk(let index): DiskService(domain: self).serve(index)
    case .network(let index): NetworkService(domain: self).serve(index)
    case .secondConsole: ConsoleService(domain: self).serve()
    case .interdomain(let other): events.raise(other)
    case .interprocessor: events.raise(port)
    case .unbound: break
    case .free, .virtualInterrupt: throw .invalid
    }
  }

  /// Answers what was asked of the store, and goes on with back ends whose front ends have.
  private func serveStore() {
    var hasMoved = false
    while true {
      let moved = store.serve()
      hasMoved = hasMoved || moved
      guard store.takeChanged() else { break }
      DiskService(domain: self).attend()
      NetworkService(domain: self).attend()
      ConsoleService(domain: self).attend()
    }
    if hasMoved { events.raise(XenMachine.storePort) }
  }

  /// What came from outside or is due, and who it wakes.
  func lookAround(_ processor: DomainProcessor) {
    if processor.number == 0 {
      console.offerRoom()
      if console.takeInput() { events.raise(XenMachine.consolePort) }
      DiskService(domain: self).lookAround()
      NetworkService(domain: self).lookAround()
      ConsoleService(domain: self).lookAround()
    }
    let now = monotonicNanoseconds()
    if now >= processor.timer, processor.rest == .none || processor.timerPeriod == 0 {
      processor.timer = processor.timerPeriod == 0 ? .max : now &+ processor.timerPeriod
      processor.updateTime()
      events.raise(virtualInterrupt: 0, processor)
    }
    if watchdogs.hasRunOut(at: now) { end(.shutdown(reason: 4)) }
    switch processor.rest {
    case .none: break
    case .blocked: if processor.hasPendingUpcall { processor.rest = .none }
    case .polling(let ports, let deadline):
      if now >= deadline || ports.contains(where: { events.isPending($0) })
        || processor.hasPendingUpcall && !processor.upcallsAreMasked
      {
        processor.rest = .none
      }
    }
    processor.runstate.change(
      to: !processor.isUp ? .offline : processor.rest == .none ? .running : .blocked, at: now)
  }

  /// Whether nothing can wake the processor any more: no timer, and every port masked that somebody else could raise.
  func isHaltedForGood(_ processor: DomainProcessor) -> Bool {
    guard processor.isUp else { return true }
    guard processor.rest != .none, processor.deadline == .max, nextWatchdog == .max else { return false }
    if case .polling = processor.rest { return false }
    return !events.channels.channels.indices.contains { index in
      let channel = events.channels.channels[index]
      return channel.processor == processor.number && channel.binding != .free && !events.isMasked(UInt32(index))
    }
  }
}
