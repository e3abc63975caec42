import TrivisorVMM
import TrivisorXenDomain

/// One virtual CPU of a `ParavirtPartition`: a run loop of the domain's, around the domain's executor.
final class ParavirtProcessor: Processor {
  private let number: Int
  private let partition: ParavirtPartition
  private let doorbell: Doorbell
  private var loop: DomainRunLoop?
  /// What of a state a domain has no use for.
  private var machine = MachineState()

  init(number: Int, partition: ParavirtPartition, doorbell: Doorbell) {
    self.number = number
    self.partition = partition
    self.doorbell = doorbell
  }

  var stopHandle: any StopHandle { doorbell }

  func begin(_ handover: Handover) throws(TechniqueFailure) {
    guard case .xenDomain(let start) = handover else {
      throw TechniqueFailure(call: "handing a guest over", reason: "it is for a machine, and this is a domain")
    }
    try partition.makeDomain(start)
  }

  func run() throws(TechniqueFailure) -> StopReason {
    guard let loop = domainLoop() else {
      guard number == 0 else {
        // Processor 0 will say it.
        while !doorbell.takeStopRequest() { doorbell.sleep(until: .max) }
        return .stopRequested
      }
      return .crashed(CrashReport(summary: "the image has overwritten what the domain builder made of it"))
    }
    return try loop.run()
  }

  /// There is one as soon as there is a domain.
  private func domainLoop() -> DomainRunLoop? {
    if let loop { return loop }
    guard let (domain, place) = partition.contents else { return nil }
    let executor: any DomainExecutor =
      switch place {
      case .processes(let cache):
        NativeExecutor(
          number: number, cache: cache, doorbell: doorbell, layout: domain.layout,
          hostProcessor: partition.hostProcessor(for: number))
      case .engine(let space): TranslatedExecutor(space, number: number, doorbell: doorbell)
      }
    loop = DomainRunLoop(domain, processor: number, executor: executor)
    return loop
  }

  var isHaltedForGood: Bool { domainLoop()?.isHaltedForGood ?? (number > 0) }

  var isBusyInKernel: Bool { domainLoop()?.isBusyInKernel ?? false }

  var counters: Counters { loop?.counters ?? Counters() }

  var details: [String: UInt64] { loop?.details ?? [:] }

  func follow(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    guard let loop = domainLoop() else {
      guard orders == .none else { throw TechniqueFailure(call: "debugging", reason: "there is no domain yet") }
      return
    }
    try loop.follow(orders)
  }

  func walk(_ linear: UInt64) throws(TechniqueFailure) -> PageWalk {
    domainLoop()?.walk(linear) ?? PageWalk(linear: linear)
  }

  func readState() throws(TechniqueFailure) -> MachineState {
    var state = machine
    domainLoop()?.copyState(to: &state)
    return state
  }

  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    machine = state
    try domainLoop()?.takeState(state)
  }
}
