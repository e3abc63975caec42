import Synchronization
import Testing
import TrivisorVMM

/// A technique whose guests do what a closure says, so that the threads can be tested without a host's help.
private final class FakePartition: Partition {
  final class Handle: StopHandle {
    let requested = Atomic(false)
    func requestStop() { requested.store(true, ordering: .sequentiallyConsistent) }
  }

  /// The states that processors were given, by their number.
  final class Written: Sendable {
    private let states = Mutex<[Int: MachineState]>([:])
    func withLock<Result>(_ body: (inout sending [Int: MachineState]) -> sending Result) -> Result {
      states.withLock(body)
    }
  }

  final class FakeProcessor: Processor {
    let handle = Handle()
    let index: Int
    let written: Written
    let script: @Sendable (Int, Handle) -> StopReason
    init(_ index: Int, _ written: Written, _ script: @escaping @Sendable (Int, Handle) -> StopReason) {
      self.index = index
      self.written = written
      self.script = script
    }
    func run() -> StopReason { script(index, handle) }
    var stopHandle: any StopHandle { handle }
    func readState() -> MachineState { MachineState() }
    func writeState(_ state: MachineState) { written.withLock { $0[index] = state } }
    var isHaltedForGood: Bool { true }
    var counters: Counters {
      var counters = Counters()
      counters.count(.exit)
      return counters
    }
  }

  private struct NoInterrupts: InterruptController {
    func setLine(_ line: Int, asserted: Bool) {}
    func deliver(_ message: InterruptMessage) {}
  }

  let interrupts: any InterruptController = NoInterrupts()
  let written = Written()
  let failing: Int?
  let script: @Sendable (Int, Handle) -> StopReason

  init(failing: Int? = nil, script: @escaping @Sendable (Int, Handle) -> StopReason) {
    self.failing = failing
    self.script = script
  }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    if index == failing { throw TechniqueFailure(call: "make", reason: "refused") }
    return FakeProcessor(index, written, script)
  }

  /// A guest that computes until it is stopped.
  static let endless: @Sendable (Int, Handle) -> StopReason = { _, handle in
    while !handle.requested.exchange(false, ordering: .sequentiallyConsistent) {}
    return .stopRequested
  }
}

@Suite("Processors' threads")
struct ProcessorThreadsTests {
  private func threads(_ partition: FakePartition, count: Int = 3) -> ProcessorThreads {
    ProcessorThreads(partition: partition, count: count, bootstrap: { _ in }, whenEnded: {})
  }

  @Test("a boot loader's processor begins where it says, and what firmware sets is set on every processor")
  func handover() {
    let partition = FakePartition { _, _ in .exited(code: 0) }
    var start = ProcessorStart(general: GeneralRegisters(), system: SystemRegisters())
    start.general.rip = 0x1234
    let threads = ProcessorThreads(partition: partition, count: 3, handover: .processor(start), whenEnded: {})
    threads.start()
    threads.resume()
    threads.join()
    let states = partition.written.withLock { $0 }
    #expect(states.count == 3)
    #expect(states[0]?.general.rip == 0x1234)
    #expect(states[1]?.general == GeneralRegisters())
    // Memory type ranges on, write-back.
    for state in states.values { #expect(state[modelSpecific: 0x2ff] == 0x806) }
  }

  @Test("the first processor that stops ends all, and the counters are added up")
  func firstStop() {
    let threads = threads(
      FakePartition { index, handle in index == 1 ? .exited(code: 9) : FakePartition.endless(index, handle) })
    threads.start()
    threads.resume()
    threads.join()
    #expect(threads.result?.ending == .stopped(.exited(code: 9)))
    #expect(threads.result?.counters[.exit] == 3)
  }

  @Test("pausing brings all to a stop, resuming lets them go on, again and again")
  func pausing() {
    let threads = threads(FakePartition(script: FakePartition.endless))
    threads.start()
    threads.pause()
    for _ in 0..<50 {
      threads.resume()
      #expect(!threads.isHaltedForGood)
      threads.pause()
      #expect(threads.isHaltedForGood)
    }
    threads.stop(.cancelled)
    threads.join()
    #expect(threads.result?.ending == .cancelled)
  }

  @Test("a processor that can't be made ends all with its failure")
  func failure() {
    let threads = threads(FakePartition(failing: 2, script: FakePartition.endless))
    threads.start()
    threads.resume()
    threads.join()
    #expect(threads.result?.ending == .failed(TechniqueFailure(call: "make", reason: "refused")))
  }

  @Test("what is stopped before it ran never runs")
  func stoppedBefore() {
    let threads = threads(FakePartition { _, _ in .shutdown })
    threads.start()
    threads.stop(.cancelled)
    threads.resume()
    threads.join()
    #expect(threads.result?.ending == .cancelled)
  }
}
