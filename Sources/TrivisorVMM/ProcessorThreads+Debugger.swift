// A debugger's hold on the processors.
//
//     run() comes back for the debugger ─▶ all are held ─▶ the debugger is told ─▶ it looks ─▶ release(…)
//
// What would end the machine is held back likewise while there is a debugger: it can look at a guest that has crashed, and
// the end comes when it lets the guest go on.

extension ProcessorThreads {
  /// What there is to tell a debugger.
  public enum DebuggerNews: Sendable, Equatable {
    /// A processor met what it was to stop for.
    case stopped(processor: Int, DebuggerStop)
    /// A processor met what ends the machine, as soon as the processors run again.
    case ending(processor: Int, StopReason)
  }

  /// What a debugger wants of the threads, and what is to be told to it.
  struct DebuggerHold {
    /// Called when there is news; `nil` while there is no debugger.
    var whenNews: (@Sendable () -> Void)?
    /// No processor is to run.
    var isHolding = false
    /// By processor: it is to stand while others run.
    var staysBehind: [Bool]
    var news: [DebuggerNews] = []
    /// What comes when they run again.
    var ending: Ending?

    init(processorCount: Int) { staysBehind = Array(repeating: false, count: processorCount) }
  }

  /// There is a debugger from now on, or none any more: then the processors are not held.
  /// - Parameter whenNews: called on any thread when there is something for `takeNews`.
  public func attachDebugger(_ whenNews: (@Sendable () -> Void)?) {
    state.with { state in
      state.debugger.whenNews = whenNews
      guard whenNews == nil else { return }
      state.debugger.news = []
      state.debugger.staysBehind = Array(repeating: false, count: count)
      state.letGo()
    }
  }

  /// Holds every processor between two instructions, whatever the owner wants; returns when all stand, or it has ended.
  public func hold() {
    state.with { $0.hold() }
    while !waitUntilTheyStand(milliseconds: 1000) {}
  }

  /// Lets processors run, unless the owner wants them to stand.
  /// - Parameter processors: which of them.
  public func release(_ processors: Set<Int>) {
    state.with { state in
      for index in 0..<count { state.debugger.staysBehind[index] = !processors.contains(index) }
      state.letGo()
    }
  }

  /// The oldest news.
  public func takeNews() -> DebuggerNews? {
    state.with { $0.debugger.news.isEmpty ? nil : $0.debugger.news.removeFirst() }
  }

  /// Whether a debugger holds the processors.
  public var isHeld: Bool { state.with { $0.debugger.isHolding } }

  /// A processor met what it was to stop for: on its thread, which parks next.
  func stopForDebugger(_ index: Int, _ stop: DebuggerStop) {
    _ = tell(.stopped(processor: index, stop), ending: nil)
  }

  /// A processor met what ends the machine.
  /// - Returns: whether the end can wait, because there is a debugger that may want to look.
  public func holdEnding(_ index: Int, _ reason: StopReason) -> Bool {
    switch reason {
    // The guest has ended by its own will.
    case .exited, .shutdown, .stopRequested, .debugger: false
    case .halted, .reset, .tripleFault, .crashed:
      tell(.ending(processor: index, reason), ending: .stopped(reason))
    }
  }

  /// - Parameter ending: what comes when the processors run again.
  /// - Returns: whether there is somebody to tell.
  private func tell(_ news: DebuggerNews, ending: Ending?) -> Bool {
    let whenNews = state.with { state -> (@Sendable () -> Void)? in
      guard let whenNews = state.debugger.whenNews, state.phase != .ending else { return nil }
      // The first of them counts.
      if ending == nil || state.debugger.ending == nil { state.debugger.news.append(news) }
      state.debugger.ending = state.debugger.ending ?? ending
      state.hold()
      return whenNews
    }
    guard let whenNews else { return false }
    kick()
    whenNews()
    return true
  }
}

extension ProcessorThreads.State {
  /// Whether a processor is to stand.
  func stands(_ index: Int) -> Bool { phase == .paused || (phase == .running && debugger.staysBehind[index]) }

  /// How it ends, if it does now.
  var dueEnding: ProcessorThreads.Ending? { phase == .running ? debugger.ending : nil }

  mutating func hold() {
    debugger.isHolding = true
    if phase == .running { phase = .paused }
  }

  mutating func letGo() {
    debugger.isHolding = false
    if phase == .paused, isWanted { phase = .running }
  }
}
