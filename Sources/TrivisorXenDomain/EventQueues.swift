// The other interface of event channels (Xen's common/event_fifo.c and public header event_channel.h): a word a port, in pages of
// the domain's own, and for each processor queues of ports by priority, linked through those words.
//
//     word: pending │ masked │ linked │ busy │ … │ the next port of the queue (17 bits)
//     control block of a processor: which queues have something, and the first port of each

import TrivisorBoot
import TrivisorCSharedWords
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

extension Domain {
  private typealias Word = EventQueues.Word

  /// EVTCHNOP_init_control: the first one changes the interface.
  func initialiseQueues(_ processor: Int, frame: UInt64, offset: UInt32) throws(XenError) {
    guard offset <= 4096 - EventQueues.controlSize, offset & 7 == 0 else { throw .invalid }
    guard eventQueues?.queues[processor].control == nil else { throw .invalid }
    let page = try sharedPage(frame)
    if eventQueues == nil {
      var queues = EventQueues(processorCount: processors.count)
      for port in queues.ports.indices { queues.ports[port].isPending = isPending(UInt32(port)) }
      eventQueues = queues
    }
    eventQueues?.queues[processor].frame = frame
    eventQueues?.queues[processor].control = page + Int(offset)
  }

  /// One that stays the domain's and writable.
  private func sharedPage(_ frame: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard !frames.isHypervisors(frame) else { throw .invalid }
    do throws(XenError) { try tables.getWritable(frame) } catch { throw .invalid }
    guard let page = frames.bytes(frame) else { throw .invalid }
    return page
  }

  /// EVTCHNOP_expand_array.
  func addEventWords(_ frame: UInt64) throws(XenError) {
    guard let queues = eventQueues else { throw .notSupported }
    guard queues.pages.count < EventQueues.pageLimit else { throw .noSpace }
    _ = try sharedPage(frame)
    let first = queues.wordCount
    eventQueues?.pages.append(frame)
    for port in first..<min(first + EventQueues.wordsPerPage, UInt32(EventChannels.limit))
    where queues.ports[Int(port)].isPending {
      eventQueues?.ports[Int(port)].isPending = false
      raiseQueued(port)
    }
  }

  /// EVTCHNOP_set_priority.
  func setEventPriority(_ port: UInt32, _ priority: UInt32) throws(XenError) {
    guard channels.isValid(port), Int(port) < EventChannels.limit else { throw .invalid }
    guard eventQueues != nil else { throw .notImplemented }
    guard priority < EventQueues.priorityCount else { throw .invalid }
    eventQueues?.ports[Int(port)].priority = UInt8(priority)
  }

  /// EVTCHNOP_reset goes back to the two levels.
  func removeQueues() {
    guard let queues = eventQueues else { return }
    for each in queues.queues where each.control != nil { tables.put(each.frame) }
    for frame in queues.pages { tables.put(frame) }
    eventQueues = nil
  }

  /// A port's word, if there is one yet.
  func eventWord(_ port: UInt32) -> UnsafeMutablePointer<UInt32>? {
    guard let queues = eventQueues, port < queues.wordCount,
      let page = frames.bytes(queues.pages[Int(port / EventQueues.wordsPerPage)])
    else { return nil }
    return page.assumingMemoryBound(to: UInt32.self) + Int(port % EventQueues.wordsPerPage)
  }

  /// Makes a port pending, and puts it into the queue of its priority unless it is masked or in one.
  func raiseQueued(_ port: UInt32) {
    guard Int(port) < EventChannels.limit else { return }
    guard let word = eventWord(port) else {
      eventQueues?.ports[Int(port)].isPending = true
      return
    }
    let processor = channels[port].processor
    // Until there is a control block nobody may unmask the port: the event is lost.
    guard eventQueues?.queues.indices.contains(processor) ?? false,
      let control = eventQueues?.queues[processor].control
    else { return }
    if shared_set_bits(word, Word.pending) & Word.pending == 0 {
      for processor in processors {
        if case .polling(let ports, _) = processor.rest, ports.contains(port) { wake(processor) }
      }
    }
    guard shared_load(word) & Word.masked == 0, shared_set_bits(word, Word.linked) & Word.linked == 0 else { return }
    guard var state = eventQueues?.ports[Int(port)] else { return }
    // If it was the last of its old queue, that queue is empty now.
    if eventQueues?.queues[state.lastProcessor].tails[Int(state.lastPriority)] == port {
      eventQueues?.queues[state.lastProcessor].tails[Int(state.lastPriority)] = 0
    }
    (state.lastProcessor, state.lastPriority) = (processor, state.priority)
    eventQueues?.ports[Int(port)] = state
    let priority = Int(state.priority)
    let tail = eventQueues?.queues[processor].tails[priority] ?? 0
    let isLinked = tail != 0 && eventWord(tail).map { link($0, to: port) } ?? false
    eventQueues?.queues[processor].tails[priority] = port
    guard !isLinked else { return }
    let head = (control + EventQueues.heads + 4 * priority).assumingMemoryBound(to: UInt32.self)
    shared_store(head, port)
    let bit: UInt32 = 1 << UInt32(priority)
    let ready = control.assumingMemoryBound(to: UInt32.self)
    if shared_set_bits(ready, bit) & bit == 0 { setPending(processors[processor]) }
  }

  /// The last port of a queue names the next one, if it is in the queue still. A domain that changes the word all the time is
  /// taken for one that has left it there.
  private func link(_ word: UnsafeMutablePointer<UInt32>, to port: UInt32) -> Bool {
    var old = shared_load(word)
    for attempt in 0..<5 {
      guard old & Word.linked != 0 else {
        if attempt > 0 { _ = shared_clear_bits(word, Word.busy) }
        return false
      }
      let seen = shared_exchange_if(word, old, old & ~(Word.busy | Word.link) | port)
      if seen == old { return true }
      if attempt == 0 { _ = shared_set_bits(word, Word.busy) }
      old = shared_load(word)
    }
    _ = shared_clear_bits(word, Word.busy)
    return true
  }

  /// EVTCHNOP_unmask.
  func unmaskQueued(_ port: UInt32) {
    guard let word = eventWord(port) else { return }
    if shared_clear_bits(word, Word.masked) & Word.pending != 0 { raiseQueued(port) }
  }
}
