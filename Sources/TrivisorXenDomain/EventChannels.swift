// Event channels, two levels (Xen's public headers event_channel.h and xen.h): a bit a port, a bit a word of ports for
// each virtual processor, and a flag that there is something. A domain has them until it asks for queues (`EventQueues`).

import TrivisorBoot
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
    /// One for network interfaces.
    case network(Int)
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
  init(_ saved: [Channel], processorCount: Int, diskCount: Int, networkCount: Int) throws(RestoreFailure) {
    try restoring(
      Domain.savedSubject, requires: saved.count <= Self.limit && saved.first?.binding ?? .free == .free,
      "it has \(saved.count) event channels")
    for channel in saved {
      let isPossible =
        switch channel.binding {
        case .interdomain(let other): saved.indices.contains(Int(other))
        case .virtualInterrupt(let number): number < UInt32(DomainProcessor.virtualInterruptCount)
        case .disk(let index): (0..<diskCount).contains(index)
        case .network(let index): (0..<networkCount).contains(index)
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
