import TrivisorCSharedWords
import TrivisorVMM

/// Queues of ports by priority.
extension DomainEvents {
  private typealias Word = EventQueues.Word

  /// EVTCHNOP_init_control: the first one changes the interface.
  func initialiseQueues(_ processor: Int, frame: UInt64, offset: UInt32) throws(XenError) {
    guard offset <= 4096 - EventQueues.controlSize, offset & 7 == 0 else { throw .invalid }
    guard queues?.queues[processor].control == nil else { throw .invalid }
    let page = try sharedPage(frame)
    if queues == nil {
      var new = EventQueues(processorCount: processors.count)
      for port in new.ports.indices { new.ports[port].isPending = isPending(UInt32(port)) }
      queues = new
    }
    queues?.queues[processor].frame = frame
    queues?.queues[processor].control = page + Int(offset)
  }

  /// One that stays the domain's and writable.
  private func sharedPage(_ frame: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard !memory.frames.isHypervisors(frame) else { throw .invalid }
    do throws(XenError) { try memory.tables.getWritable(frame) } catch { throw .invalid }
    guard let page = memory.frames.bytes(frame) else { throw .invalid }
    return page
  }

  /// EVTCHNOP_expand_array.
  func addEventWords(_ frame: UInt64) throws(XenError) {
    guard let old = queues else { throw .notSupported }
    guard old.pages.count < EventQueues.pageLimit else { throw .noSpace }
    _ = try sharedPage(frame)
    let first = old.wordCount
    queues?.pages.append(frame)
    for port in first..<min(first + EventQueues.wordsPerPage, UInt32(EventChannels.limit))
    where old.ports[Int(port)].isPending {
      queues?.ports[Int(port)].isPending = false
      raiseQueued(port)
    }
  }

  /// EVTCHNOP_set_priority.
  func setEventPriority(_ port: UInt32, _ priority: UInt32) throws(XenError) {
    guard channels.isValid(port), Int(port) < EventChannels.limit else { throw .invalid }
    guard queues != nil else { throw .notImplemented }
    guard priority < EventQueues.priorityCount else { throw .invalid }
    queues?.ports[Int(port)].priority = UInt8(priority)
  }

  /// EVTCHNOP_reset goes back to the two levels.
  func removeQueues() {
    guard let old = queues else { return }
    for each in old.queues where each.control != nil { memory.tables.put(each.frame) }
    for frame in old.pages { memory.tables.put(frame) }
    queues = nil
  }

  /// A port's word, if there is one yet.
  func eventWord(_ port: UInt32) -> UnsafeMutablePointer<UInt32>? {
    guard let queues, port < queues.wordCount,
      let page = memory.frames.bytes(queues.pages[Int(port / EventQueues.wordsPerPage)])
    else { return nil }
    return page.assumingMemoryBound(to: UInt32.self) + Int(port % EventQueues.wordsPerPage)
  }

  /// Makes a port pending, and puts it into the queue of its priority unless it is masked or in one.
  func raiseQueued(_ port: UInt32) {
    guard Int(port) < EventChannels.limit else { return }
    guard let word = eventWord(port) else {
      queues?.ports[Int(port)].isPending = true
      return
    }
    let processor = channels[port].processor
    // Until there is a control block nobody may unmask the port: the event is lost.
    guard queues?.queues.indices.contains(processor) ?? false,
      let control = queues?.queues[processor].control
    else { return }
    if shared_set_bits(word, Word.pending) & Word.pending == 0 {
      for processor in processors {
        if case .polling(let ports, _) = processor.rest, ports.contains(port) { wake(processor) }
      }
    }
    guard shared_load(word) & Word.masked == 0, shared_set_bits(word, Word.linked) & Word.linked == 0 else { return }
    guard var state = queues?.ports[Int(port)] else { return }
    // If it was the last of its old queue, that queue is empty now.
    if queues?.queues[state.lastProcessor].tails[Int(state.lastPriority)] == port {
      queues?.queues[state.lastProcessor].tails[Int(state.lastPriority)] = 0
    }
    (state.lastProcessor, state.lastPriority) = (processor, state.priority)
    queues?.ports[Int(port)] = state
    let priority = Int(state.priority)
    let tail = queues?.queues[processor].tails[priority] ?? 0
    let isLinked = tail != 0 && eventWord(tail).map { link($0, to: port) } ?? false
    queues?.queues[processor].tails[priority] = port
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
