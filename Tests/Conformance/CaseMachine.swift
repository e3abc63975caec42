// One machine for one case: made, run and looked at through nothing but the technique protocol.
//
// Each processor has a thread, which makes it, runs it and at the end reads its state. The thread that called `run()`
// meanwhile does what the guest asks for with a delay, and is the watchdog: a guest that has not ended in time is
// stopped, and a processor that does not even stop is a failure of its own.

import Glibc
import Synchronization
import TrivisorVMM

/// Runs one case under one technique.
final class CaseMachine: Sendable {
  private struct State {
    var handles: [(any StopHandle)?]
    var states: [MachineState?]
    var ready = 0
    var finished = 0
    var ending: ConformanceCase.Ending?
    var findings: [String] = []
    /// The guest asked for a stop that has not arrived yet.
    var stopAsked = false
    /// Events to be raised a little later.
    var later: [UInt8] = []
    var timedOut = false
  }

  private let conformanceCase: ConformanceCase
  private let count: Int
  private let interruptChips: InterruptChips
  private let journal = Journal()
  private let controller = Mutex<(any InterruptController)?>(nil)
  private let state: Monitor<State>

  init(_ conformanceCase: ConformanceCase, interruptChips: InterruptChips, idleProcessors: Int) {
    self.conformanceCase = conformanceCase
    self.interruptChips = interruptChips
    count = conformanceCase.processorCount + idleProcessors
    state = Monitor(State(handles: Array(repeating: nil, count: count), states: Array(repeating: nil, count: count)))
  }

  /// What was left, or what went wrong.
  /// - Throws: what the technique or the case's preparation throws.
  func run(under technique: any Technique, timeLimit milliseconds: Int) throws -> (Observation?, findings: [String]) {
    guard let code = GuestCode.all[conformanceCase.guest], let handlers = GuestCode.all[conformanceCase.mode.handlers]
    else { return (nil, ["there is no guest \(conformanceCase.guest)"]) }
    let memory = try GuestMemory(size: Layout.memorySize)
    try memory.copy(code, to: GuestPhysicalAddress(Layout.guest))
    try memory.copy(handlers, to: GuestPhysicalAddress(Layout.handlers))
    if let companion = conformanceCase.companion {
      guard let code = GuestCode.all[companion] else { return (nil, ["there is no guest \(companion)"]) }
      try memory.copy(code, to: GuestPhysicalAddress(Layout.companion))
    }
    try conformanceCase.mode.writeTables(TableWriter(memory: memory))
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    configuration.processorCount = count
    configuration.interruptChips = interruptChips
    let partition = try technique.makePartition(configuration, memory: memory, bus: makeBus())
    controller.withLock { $0 = partition.interrupts }
    for index in 0..<count { startThread(index, partition, memory) }
    watch(milliseconds: milliseconds)
    controller.withLock { $0 = nil }
    return state.with { state in
      guard state.finished == count else {
        return (nil, state.findings + ["a processor did not stop when asked to, within two seconds"])
      }
      if state.timedOut {
        let places = state.states.map { state in
          guard let state else { return "?" }
          return "\(hexadecimal(state.system.cs.base &+ state.general.rip)) (\(state.activity))"
        }
        state.findings.append(
          "not ended after \(milliseconds) ms, at \(places.joined(separator: ", ")); \(Self.list(journal.results))")
        return (nil, state.findings)
      }
      guard let ending = state.ending else { return (nil, state.findings) }
      return (
        Observation(
          ending: ending, results: journal.results, journal: journal.accesses,
          features: configuration.processorModel.features.subtracting(technique.reductions(for: configuration)),
          states: state.states.compactMap { $0 },
          memory: memory), state.findings
      )
    }
  }

  /// Values as failure messages show them.
  static func list(_ values: [UInt64]) -> String {
    "[" + values.map { hexadecimal($0) }.joined(separator: " ") + "]"
  }

  private func makeBus() throws -> Bus {
    let end = Layout.memorySize
    return try Bus(
      ports: [
        .init("result", base: 0x10, count: 8, device: ResultPort(journal)),
        .init("event", base: 0x18, count: 1, device: EventPort { [self] in event($0) }),
        .init("journal", base: 0xb8, count: 8, device: JournalPorts(journal, base: 0xb8, first: 0xa0)),
        .init("far journal", base: 0x300, count: 8, device: JournalPorts(journal, base: 0x300, first: 0xb0)),
        .init("next journal", base: 0x308, count: 8, device: JournalPorts(journal, base: 0x308, first: 0xc0)),
        .init("finish", base: 0xf4, count: 1, device: FinishPort()),
      ],
      memory: [
        .init(
          "journal", base: GuestPhysicalAddress(Layout.device), size: 4096,
          device: JournalMemory(journal, base: Layout.device)),
        .init(
          "user page", base: GuestPhysicalAddress(Layout.userPage), size: 4096,
          device: UserPage(journal) { [self] in event($0) }),
        .init("edge", base: GuestPhysicalAddress(end), size: 4096, device: JournalMemory(journal, base: end)),
      ])
  }

  private func startThread(_ index: Int, _ partition: any Partition, _ memory: GuestMemory) {
    let box = Unmanaged.passRetained(
      ThreadBody { [self] in runProcessor(index, partition, memory) })
    var thread = pthread_t()
    let error = pthread_create(
      &thread, nil,
      { argument in
        if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body() }
        return nil
      }, box.toOpaque())
    if error == 0 {
      pthread_detach(thread)
    } else {
      box.release()
      fail(index, "pthread_create: error \(error)")
    }
  }

  private func fail(_ index: Int, _ message: String) {
    state.with { state in
      state.findings.append(message)
      state.handles[index] = nil
      state.ready += 1
      state.finished += 1
    }
  }

  private func runProcessor(_ index: Int, _ partition: any Partition, _ memory: GuestMemory) {
    let processor: any Processor
    do {
      processor = try partition.makeProcessor(index: index)
      if index == 0 {
        var initial = try processor.readState()
        conformanceCase.mode.enter(&initial)
        try conformanceCase.prepare(&initial, TableWriter(memory: memory))
        try processor.writeState(initial)
      }
    } catch {
      fail(index, "\(error)")
      return
    }
    let handle = processor.stopHandle
    state.with { state in
      state.handles[index] = handle
      state.ready += 1
    }
    let _: Bool = state.wait { $0.ready == count ? true : nil }
    var findings: [String] = []
    var ending: ConformanceCase.Ending?
    do {
      ending = try loop(processor, &findings)
    } catch {
      findings.append("\(error)")
    }
    let last = try? processor.readState()
    state.with { state in
      state.handles[index] = nil
      state.states[index] = last
      state.findings += findings
      if state.ending == nil, findings.isEmpty { state.ending = ending }
      if state.ending == nil { state.findings.append("no ending") }
      state.finished += 1
    }
  }

  /// Runs until this processor ends the machine, or another has: then `nil`.
  private func loop(_ processor: any Processor, _ findings: inout [String]) throws -> ConformanceCase.Ending? {
    while true {
      if isOver { return nil }
      let reason = try processor.run()
      guard reason == .stopRequested else { return .stopped(reason) }
      if isOver { return nil }
      if conformanceCase.ending == .haltedForGood, processor.isHaltedForGood { return .haltedForGood }
      let wasAsked = state.with { state in
        defer { state.stopAsked = false }
        return state.stopAsked
      }
      guard wasAsked else { continue }
      if try conformanceCase.isTooEarly(processor) {
        state.with { $0.later.append(5) }
        continue
      }
      guard let interlude = conformanceCase.interlude else { return .stopRequested }
      findings += try interlude(processor)
    }
  }

  private var isOver: Bool {
    state.with { $0.ending != nil || !$0.findings.isEmpty || $0.timedOut || $0.finished > 0 }
  }

  /// Raises delayed events, asks about halting where that is what is expected, and ends what takes too long.
  private func watch(milliseconds: Int) {
    let begin = monotonicNanoseconds()
    func elapsed() -> Int { Int((monotonicNanoseconds() - begin) / 1_000_000) }
    while elapsed() < milliseconds {
      let events = state.wait(milliseconds: 5) { state -> [UInt8]? in
        if state.finished == count { return [] }
        defer { state.later = [] }
        return state.finished > 0 || !state.later.isEmpty ? state.later : nil
      }
      if state.with({ $0.finished == count }) { return }
      if let events, !events.isEmpty {
        // Nothing holds an NMI back until its guest waits for it, which takes its time on a slow host.
        usleep(events.contains(4) ? 50_000 : 3000)
        for number in events { event(number) }
      }
      if state.with({ $0.finished > 0 }) {
        usleep(100)
        stopAll()
      } else if conformanceCase.ending == .haltedForGood {
        stopAll()
      }
    }
    state.with { $0.timedOut = true }
    for _ in 0..<400 {
      stopAll()
      if state.wait(milliseconds: 5, { $0.finished == count ? true : nil }) != nil { return }
    }
  }

  private func stopAll() {
    for handle in state.with({ $0.handles }) { handle?.requestStop() }
  }

  /// The EVENT_ numbers of guest.h.
  private func event(_ number: UInt8) {
    guard number & 0x80 == 0 else {
      state.with { $0.later.append(number & 0x7f) }
      return
    }
    let controller = controller.withLock { $0 }
    switch number {
    case 1: controller?.setLine(5, asserted: true)
    case 2: controller?.setLine(5, asserted: false)
    case 3: controller?.deliver(.fixed(vector: 0x51, to: 0))
    case 4: controller?.deliver(.nonMaskable(to: 0))
    case 5:
      let handle = state.with { state in
        state.stopAsked = true
        return state.handles[0]
      }
      handle?.requestStop()
    case 6:
      controller?.deliver(.fixed(vector: 0x51, to: 0))
      controller?.deliver(.fixed(vector: 0x61, to: 0))
    default: break
    }
  }
}

/// What a new thread is given.
private final class ThreadBody: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
