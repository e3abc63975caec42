// Making ports of event channels pending, and telling processors of it. One bit a port is for all to see, in either interface; what
// comes of it differs (`EventChannels`, `EventQueues`).

import TrivisorCSharedWords
import TrivisorVMM

/// A domain's event channels. Used with the domain's lock held.
final class DomainEvents {
  let memory: DomainMemory
  let sharedInfo: UnsafeMutableRawPointer
  /// Whom ports can be bound to.
  var processors: [DomainProcessor] = []
  var channels = EventChannels()
  /// Once the domain has asked for that interface.
  var queues: EventQueues?

  init(_ memory: DomainMemory, sharedInfo: UnsafeMutableRawPointer) {
    self.memory = memory
    self.sharedInfo = sharedInfo
  }

  var layout: SharedLayout { memory.layout }

  private func word(_ base: UnsafeMutableRawPointer, _ offset: Int, _ bit: UInt32) -> UnsafeMutablePointer<UInt32> {
    (base + offset + Int(bit >> 5) * 4).assumingMemoryBound(to: UInt32.self)
  }

  func isPending(_ port: UInt32) -> Bool {
    guard queues == nil else { return eventWord(port).map { shared_load($0) >> 31 != 0 } ?? false }
    return port < layout.portLimit && shared_load(word(sharedInfo, layout.pending, port)) & 1 << (port & 31) != 0
  }

  func isMasked(_ port: UInt32) -> Bool {
    guard queues == nil else {
      return eventWord(port).map { shared_load($0) & EventQueues.Word.masked != 0 } ?? true
    }
    return shared_load(word(sharedInfo, layout.mask, port)) & 1 << (port & 31) != 0
  }

  /// Makes a port pending, and its processor if the port is not masked.
  func raise(_ port: UInt32) {
    guard port > 0, port < layout.portLimit else { return }
    guard queues == nil else { return raiseQueued(port) }
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
    guard queues == nil else { return unmaskQueued(port) }
    let bit: UInt32 = 1 << (port & 31)
    guard shared_clear_bits(word(sharedInfo, layout.mask, port), bit) & bit != 0, isPending(port) else { return }
    markPending(port)
  }

  /// A virtual interrupt of one processor.
  func raise(virtualInterrupt number: Int, _ processor: DomainProcessor) {
    raise(processor.virtualInterruptPorts[number])
  }

  /// The port leads nowhere, and nothing is pending there.
  func release(_ port: UInt32) {
    channels.bind(port, .free)
    guard queues == nil else {
      if let word = eventWord(port) { _ = shared_clear_bits(word, EventQueues.Word.pending) }
      return
    }
    _ = shared_clear_bits(word(sharedInfo, layout.pending, port), 1 << (port & 31))
  }
}
