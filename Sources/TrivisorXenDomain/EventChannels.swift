// Event channels, two levels (Xen's public headers event_channel.h and xen.h): a bit a port, a bit a word of ports for
// each virtual processor, and a flag that there is something. A domain has them until it asks for queues (`EventQueues`).

import TrivisorBoot
import TrivisorCSharedWords
import Synchronization
import TrivisorVMM

/// What each port leads to.
struct EventChannels {
  enum Binding: Codable, Sendable, Equatable {
    case free
    /// Waits for this domain to bind to it.
    case unbound(remote: UInt16)
    /// Another port of this domain.
    case interdomain(UInt32)
    case virtualInterrupt(UInt32)
    case interprocessor
    case console, store
    /// One of our back ends for disks.
    case disk(Int)
    /// Our back end for the second console.
    case secondConsole
  }

  struct Channel: Codable, Sendable, Equatable {
    var binding = Binding.free
    var processor = 0
  }

  /// The most that a domain gets; more than any guest with a few devices needs.
  static let limit = 1024

  private(set) var channels: [Channel] = []

  /// None.
  init() {}

  /// Those of a saved domain with so many processors.
  init(_ saved: [Channel], processorCount: Int, diskCount: Int) throws(RestoreFailure) {
    try restoring(
      Domain.savedSubject, requires: saved.count <= Self.limit && saved.first?.binding ?? .free == .free,
      "it has \(saved.count) event channels")
    for channel in saved {
      let isPossible =
        switch channel.binding {
        case .interdomain(let other): saved.indices.contains(Int(other))
        case .virtualInterrupt(let number): number < UInt32(DomainProcessor.virtualInterruptCount)
        case .disk(let index): (0..<diskCount).contains(index)
        case .free, .unbound, .interprocessor, .console, .store: true
        // What it is about is not saved.
        case .secondConsole: false
        }
      try restoring(
        Domain.savedSubject, requires: isPossible && (0..<processorCount).contains(channel.processor),
        "an event channel leads nowhere")
    }
    channels = saved
  }

  /// Ports come into being so many at a time, as Xen's do.
  private static let group = 64

  /// Whether the port can lead somewhere: one of those that came with another.
  func isValid(_ port: UInt32) -> Bool {
    Int(port) < max(1, (channels.count + Self.group - 1) / Self.group) * Self.group
  }

  subscript(port: UInt32) -> Channel {
    channels.indices.contains(Int(port)) ? channels[Int(port)] : Channel()
  }

  mutating func bind(_ port: UInt32, _ binding: Binding, processor: Int = 0) {
    while channels.count <= Int(port) { channels.append(Channel()) }
    channels[Int(port)] = Channel(binding: binding, processor: processor)
  }

  mutating func setProcessor(_ port: UInt32, _ processor: Int) {
    if channels.indices.contains(Int(port)) { channels[Int(port)].processor = processor }
  }

  /// The lowest port that leads nowhere; 0 never is one.
  mutating func allocate(_ binding: Binding, processor: Int = 0) throws(XenError) -> UInt32 {
    let port = (1..<max(1, channels.count)).first { channels[$0].binding == .free } ?? max(1, channels.count)
    guard port < Self.limit else { throw .noSpace }
    bind(UInt32(port), binding, processor: processor)
    return UInt32(port)
  }
}

extension Domain {
  private func word(_ base: UnsafeMutableRawPointer, _ offset: Int, _ bit: UInt32) -> UnsafeMutablePointer<UInt32> {
    (base + offset + Int(bit >> 5) * 4).assumingMemoryBound(to: UInt32.self)
  }

  func isPending(_ port: UInt32) -> Bool {
    guard eventQueues == nil else { return eventWord(port).map { shared_load($0) >> 31 != 0 } ?? false }
    return port < layout.portLimit && shared_load(word(sharedInfo, layout.pending, port)) & 1 << (port & 31) != 0
  }

  private func isMasked(_ port: UInt32) -> Bool {
    guard eventQueues == nil else {
      return eventWord(port).map { shared_load($0) & EventQueues.Word.masked != 0 } ?? true
    }
    return shared_load(word(sharedInfo, layout.mask, port)) & 1 << (port & 31) != 0
  }

  /// Makes a port pending, and its processor if the port is not masked.
  func raise(_ port: UInt32) {
    guard port > 0, port < layout.portLimit else { return }
    guard eventQueues == nil else { return raiseQueued(port) }
    let bit: UInt32 = 1 << (port & 31)
    guard shared_set_bits(word(sharedInfo, layout.pending, port), bit) & bit == 0 else { return }
    for processor in processors {
      if case .polling(let ports, _) = processor.rest, ports.contains(port) { wake(processor) }
    }
    guard !isMasked(port) else { return }
    markPending(port)
  }

  /// The second level, and the processor's flag.
  private func markPending(_ port: UInt32) {
    guard processors.indices.contains(channels[port].processor) else { return }
    let processor = processors[channels[port].processor]
    let selector = port / UInt32(8 * layout.wordSize)
    let bit: UInt32 = 1 << (selector & 31)
    let old = shared_set_bits(word(processor.info, layout.selector, selector), bit)
    guard old & bit == 0 else { return }
    setPending(processor)
  }

  func setPending(_ processor: DomainProcessor) {
    // The flag is the first byte of vcpu_info; the mask, which only the processor itself changes, is the second.
    processor.info.storeBytes(of: 1, as: UInt8.self)
    if processor.rest == .blocked { wake(processor) }
    processor.doorbell.ring()
  }

  func wake(_ processor: DomainProcessor) {
    processor.rest = .none
    processor.doorbell.ring()
  }

  /// EVTCHNOP_unmask: clears the mask, and makes up for what came meanwhile.
  func unmask(_ port: UInt32) throws(XenError) {
    guard port < layout.portLimit, channels.isValid(port) else { throw .invalid }
    guard eventQueues == nil else { return unmaskQueued(port) }
    let bit: UInt32 = 1 << (port & 31)
    guard shared_clear_bits(word(sharedInfo, layout.mask, port), bit) & bit != 0, isPending(port) else { return }
    markPending(port)
  }

  /// EVTCHNOP_close: the port leads nowhere, and nothing is pending there.
  func close(_ port: UInt32) throws(XenError) {
    switch channels[port].binding {
    case .free: throw .invalid
    case .interdomain(let other):
      channels.bind(other, .unbound(remote: Self.ownNumber), processor: channels[other].processor)
    case .virtualInterrupt(let number):
      for processor in processors where processor.virtualInterruptPorts[Int(number)] == port {
        processor.virtualInterruptPorts[Int(number)] = 0
      }
    case .disk(let index): disconnect(index)
    case .secondConsole: disconnectConsole()
    default: break
    }
    channels.bind(port, .free)
    guard eventQueues == nil else {
      if let word = eventWord(port) { _ = shared_clear_bits(word, EventQueues.Word.pending) }
      return
    }
    _ = shared_clear_bits(word(sharedInfo, layout.pending, port), 1 << (port & 31))
  }

  /// EVTCHNOP_send.
  func send(_ port: UInt32) throws(XenError) {
    switch channels[port].binding {
    case .store:
      serveStore()
    case .console:
      // Told only when something moved: a domain that notifies us for every notification would never rest.
      let hasMoved = console.drain()
      console.offerRoom()
      if console.takeInput() || hasMoved { raise(port) }
    case .disk(let index): serveDisk(index)
    case .secondConsole: serveSecondConsole()
    case .interdomain(let other): raise(other)
    case .interprocessor: raise(port)
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
      attendDisks()
      attendConsole()
    }
    if hasMoved { raise(XenMachine.storePort) }
  }

  /// A virtual interrupt of one processor.
  func raise(virtualInterrupt number: Int, _ processor: DomainProcessor) {
    raise(processor.virtualInterruptPorts[number])
  }

  /// What came from outside or is due, and who it wakes.
  func lookAround(_ processor: DomainProcessor) {
    if processor.number == 0 {
      console.offerRoom()
      if console.takeInput() { raise(XenMachine.consolePort) }
      lookAtDisks()
      lookAtConsole()
    }
    let now = monotonicNanoseconds()
    if now >= processor.timer, processor.rest == .none || processor.timerPeriod == 0 {
      processor.timer = processor.timerPeriod == 0 ? .max : now &+ processor.timerPeriod
      processor.updateTime()
      raise(virtualInterrupt: 0, processor)
    }
    if watchdogs.hasRunOut(at: now) { end(.shutdown(reason: 4)) }
    switch processor.rest {
    case .none: break
    case .blocked: if processor.hasPendingUpcall { processor.rest = .none }
    case .polling(let ports, let deadline):
      if now >= deadline || ports.contains(where: { isPending($0) })
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
    return !channels.channels.indices.contains { index in
      let channel = channels.channels[index]
      return channel.processor == processor.number && channel.binding != .free && !isMasked(UInt32(index))
    }
  }
}
