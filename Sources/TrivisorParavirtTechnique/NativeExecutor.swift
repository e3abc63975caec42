import Glibc
import TrivisorSandbox
import TrivisorVMM
import TrivisorXenDomain

/// Runs the code of one virtual processor natively, in the sandboxed process of the root that it is on.
final class NativeExecutor: DomainExecutor {
  private let number: Int
  private let cache: AddressSpaceCache
  private let doorbell: Doorbell
  private let layout: SharedLayout
  /// The processor of the host that it stays on.
  private let hostProcessor: Int32
  private var space: GuestAddressSpace?
  /// Where guest code ran last: its floating-point and vector registers are there.
  private var lastThread: SandboxThread?
  private var rootSwitchCount: UInt64 = 0
  private var host = UserRegisters()
  private var tableLoadLimit: UInt32 = 0

  init(number: Int, cache: AddressSpaceCache, doorbell: Doorbell, layout: SharedLayout, hostProcessor: Int32) {
    self.number = number
    self.cache = cache
    self.doorbell = doorbell
    self.layout = layout
    self.hostProcessor = hostProcessor
  }

  func enterThread() {}
  func leaveThread() {}
  /// All processors run at the same time.
  func beginTurn(isHurried: Bool) {}
  func endTurn() {}
  func passTurn(isYielding: Bool) { if isYielding { sched_yield() } }

  func enter(_ view: AddressView, isKernel: Bool) throws(TechniqueFailure) {
    space = try cache.space(for: view, processor: number)
  }

  /// The host's processor takes none of them from a process.
  func set(_ controls: DomainControls) {}

  func limitTableLoads(_ count: UInt32) { tableLoadLimit = count }

  func run(
    _ registers: inout DomainRegisters, servesCalls: Bool, until deadline: UInt64
  ) throws(GuestCodeLost) -> DomainTrap {
    guard let space else { return .interrupted }
    do throws(SandboxEnded) {
      let thread = try space.thread(number, hostProcessor: hostProcessor)
      if let lastThread, lastThread !== thread {
        try thread.copyExtendedState(from: lastThread)
        rootSwitchCount &+= 1
      }
      lastThread = thread
      // Somebody has rung meanwhile.
      guard doorbell.enter(space) else { return .interrupted }
      defer { doorbell.leave() }
      thread.setServes(servesCalls, windowLoads: tableLoadLimit)
      HostSelectors.copy(registers, to: &host, layout)
      let trap = try thread.run(&host, until: deadline)
      HostSelectors.copy(host, to: &registers, layout)
      return translate(trap, registers, space)
    } catch {
      lastThread = nil
      throw GuestCodeLost(error.description)
    }
  }

  /// Which of them the host's processor has.
  private static let lostCall: DomainTrap.LostSystemCall = HostProcessor.hasSYSENTER ? .systemEntry : .systemCall32

  private func translate(
    _ trap: SandboxTrap, _ registers: DomainRegisters, _ space: GuestAddressSpace
  ) -> DomainTrap {
    switch trap {
    // The kernel has already returned from the one page of the host's that is in every process.
    case .systemCall(let rip): return rip == registers.rip ? .systemCall : .hostPageCall(address: rip)
    case .foreignSystemCall: return .foreignSystemCall(Self.lostCall)
    case .lostSystemCall: return .lostSystemCall(Self.lostCall)
    case .exception(let vector, let code, let address):
      return .exception(vector: vector, errorCode: code, address: space.guestAddress(address))
    case .memoryFailure(let address): return .memoryFailure(address: space.guestAddress(address))
    case .interrupted: return .interrupted
    }
  }

  func extendedState() -> ExtendedState {
    var state = ExtendedState()
    // What ended with its process is as if it had never been.
    if let lastThread, let saved = try? lastThread.savedExtendedState() {
      (state.xcr0, state.area) = saved
    }
    return state
  }

  func setExtendedState(_ state: ExtendedState) throws(TechniqueFailure) {
    let call = "writing the vector registers"
    guard let space else { throw TechniqueFailure(call: call, reason: "there is no address space to run in") }
    do throws(SandboxEnded) {
      let thread = try space.thread(number, hostProcessor: hostProcessor)
      guard try thread.restoreExtendedState(components: state.xcr0, image: state.area) else {
        throw SandboxEnded("they are of a processor that has others than this host's")
      }
      lastThread = thread
    } catch {
      throw TechniqueFailure(call: call, reason: error.description)
    }
  }

  func map(_ runs: [PageRun], writable: Bool, executable: Bool) throws(MappingRefusal) {
    do throws(MappingFailure) {
      try space?.map(runs, writable: writable, executable: executable)
    } catch {
      switch error {
      case .refused(let reason): throw .refused("\(reason)")
      case .ended: throw .viewIsGone
      }
    }
  }

  /// The host's processor tells of pages only.
  let seesWatchedBytes = false
  func watch(_ points: [Watchpoint]) {}
  func takeWatched() -> Watchpoint? { nil }

  func canReach(_ address: UInt64) -> Bool {
    (space?.hostAddress(address) ?? .max) < MappingChange.addressLimit
  }

  var counters: Counters { Counters() }

  func takeServed() -> ServedCalls {
    guard let served = lastThread?.takeServed() else { return ServedCalls() }
    return ServedCalls(segmentBases: served.segmentBases, tableLoads: served.loads)
  }

  var details: [String: UInt64] {
    var details = ["switches between address spaces": rootSwitchCount]
    if number == 0 { details["address spaces made"] = cache.createdCount }
    return details
  }
}
