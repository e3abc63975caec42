// The other interface of event channels (Xen's common/event_fifo.c and public header event_channel.h): a word a port, in pages of
// the domain's own, and for each processor queues of ports by priority, linked through those words.
//
//     word: pending │ masked │ linked │ busy │ … │ the next port of the queue (17 bits)
//     control block of a processor: which queues have something, and the first port of each

import TrivisorBoot
import TrivisorVMM

/// What the hypervisor keeps of the queues.
struct EventQueues {
  static let wordsPerPage: UInt32 = 1024
  static let pageLimit = 128
  static let linkBits: UInt8 = 17
  static let priorityCount: UInt32 = 16
  /// EVTCHN_FIFO_PRIORITY_DEFAULT.
  static let usualPriority: UInt8 = 7
  /// `struct evtchn_fifo_control_block`: a word of bits, a reserved one, the first ports.
  static let controlSize: UInt32 = 72
  static let heads = 8

  enum Word {
    static let pending: UInt32 = 1 << 31
    static let masked: UInt32 = 1 << 30
    static let linked: UInt32 = 1 << 29
    static let busy: UInt32 = 1 << 28
    static let link: UInt32 = 1 << 17 - 1
  }

  /// Where a port is: its priority, and the queue that it was in last.
  struct Port: Codable, Sendable, Equatable {
    var priority = EventQueues.usualPriority
    var lastPriority = EventQueues.usualPriority
    var lastProcessor = 0
    /// It was raised when there was no word for it yet.
    var isPending = false
  }

  struct Queues {
    var frame: UInt64 = 0
    var control: UnsafeMutableRawPointer?
    var tails = [UInt32](repeating: 0, count: Int(EventQueues.priorityCount))
  }

  /// Frames of words.
  var pages: [UInt64] = []
  /// By processor.
  var queues: [Queues]
  /// By port.
  var ports: [Port]

  init(processorCount: Int) {
    queues = (0..<processorCount).map { _ in Queues() }
    ports = (0..<EventChannels.limit).map { _ in Port() }
  }

  var wordCount: UInt32 { UInt32(pages.count) * Self.wordsPerPage }

  struct Saved: Codable, Sendable, Equatable {
    struct Queues: Codable, Sendable, Equatable {
      var frame: UInt64
      var offset: UInt32?
      var tails: [UInt32]
    }

    var pages: [UInt64]
    var queues: [Queues]
    var ports: [Port]

    /// Counts what it refers to.
    func getReferences(_ tables: inout PageTables) throws(XenError) {
      for frame in pages { try tables.getWritable(frame) }
      for each in queues where each.offset != nil { try tables.getWritable(each.frame) }
    }
  }

  func save(_ frames: MachineFrames) -> Saved {
    Saved(
      pages: pages,
      queues: queues.map { each in
        let offset = each.control.flatMap { control in frames.bytes(each.frame).map { UInt32(control - $0) } }
        return Saved.Queues(frame: each.frame, offset: offset, tails: each.tails)
      }, ports: ports)
  }

  init(_ saved: Saved, processorCount: Int, _ frames: MachineFrames) throws(RestoreFailure) {
    self.init(processorCount: processorCount)
    let limit = UInt32(EventChannels.limit)
    try restoring(
      Domain.savedSubject,
      requires: saved.pages.count <= Self.pageLimit && saved.queues.count == processorCount
        && saved.ports.count == ports.count
        && saved.ports.allSatisfy {
          UInt32($0.priority) < Self.priorityCount && UInt32($0.lastPriority) < Self.priorityCount
            && (0..<processorCount).contains($0.lastProcessor)
        }
        && saved.queues.allSatisfy { each in
          each.tails.count == Int(Self.priorityCount) && each.tails.allSatisfy { $0 < limit }
            && each.offset.map { $0 <= 4096 - Self.controlSize && $0 & 7 == 0 } ?? true
        }, "its queues of events are not such as it can have")
    (pages, ports) = (saved.pages, saved.ports)
    for (number, each) in saved.queues.enumerated() {
      queues[number].tails = each.tails
      guard let offset = each.offset, let page = frames.bytes(each.frame) else { continue }
      (queues[number].frame, queues[number].control) = (each.frame, page + Int(offset))
    }
  }
}
