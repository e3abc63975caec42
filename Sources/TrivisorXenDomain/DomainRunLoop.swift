// A processor of a domain runs:
//
//     events, upcalls ─▶ guest code (executor) ─▶ trap ─┬─ SYSCALL ─▶ hypercall, or the guest's own system call
//          ▲                                            ├─ #PF: in the guest's tables? map it : the guest's fault
//          │                                            ├─ #GP: emulate : the guest's fault
//          └──── stale translations removed ◀───────────┴─ other exceptions: the guest's

import Synchronization
import TrivisorVMM
import TrivisorX86

/// The run loop of one virtual processor. Used on one thread.
public final class DomainRunLoop {
  let domain: Domain
  let processor: DomainProcessor
  let executor: any DomainExecutor
  /// What a debugger from outside wants (`DomainRunLoop+Debugger`).
  var debugger = DomainDebugger()
  /// Exits, the time in guest code, and what was delivered to the kernel: an upcall is its interrupt.
  public var counters: Counters {
    var counters = ownCounters + executor.counters
    counters[.exceptionDelivered] = processor.trapCounts.exceptionCount
    counters[.interruptDelivered] = processor.upcallCount
    return counters
  }
  private var ownCounters = Counters()

  /// - Parameter number: of the processor; there is one as long as there is a doorbell.
  public init(_ domain: Domain, processor number: Int, executor: any DomainExecutor) {
    self.domain = domain
    processor = domain.processors[number]
    self.executor = executor
  }

  /// Whether nothing can wake the processor any more.
  public var isHaltedForGood: Bool { domain.lock.withLock { _ in domain.isHaltedForGood(processor) } }

  /// Whether it executes the guest's kernel and waits for nothing. Only between two runs.
  public var isBusyInKernel: Bool {
    domain.lock.withLock { _ in processor.isUp && processor.rest == .none && processor.mode == .kernel }
  }

  /// Puts the processor's registers into a machine's state.
  public func copyState(to state: inout MachineState) {
    domain.lock.withLock { _ in
      processor.copyRegisters(to: &state)
      state.extended = executor.extendedState()
    }
  }

  /// Takes over the integer registers, the bases of FS and GS, and x87 and vector registers if the state has any.
  /// - Throws: `TechniqueFailure` for what guest code can't have.
  public func takeState(_ state: MachineState) throws(TechniqueFailure) {
    guard LinearAddress.isCanonical(state.system.fs.base), LinearAddress.isCanonical(state.system.gs.base) else {
      throw TechniqueFailure(call: "writeState", reason: "the base of FS or GS is not canonical")
    }
    try domain.lock.withLock { _ throws(TechniqueFailure) in
      processor.takeRegisters(of: state)
      guard processor.isInitialised, !state.extended.area.isEmpty else { return }
      try executor.enter(processor.view, isKernel: processor.mode == .kernel)
      try executor.setExtendedState(state.extended)
    }
  }

  /// What to do next.
  enum Plan {
    case stop(StopReason)
    case rest(until: UInt64)
    case run(until: UInt64, serving: Bool)
  }

  /// Runs guest code until there is a reason to stop.
  /// - Throws: `TechniqueFailure` when the host refuses what an executor needs.
  public func run() throws(TechniqueFailure) -> StopReason {
    try executor.enterThread()
    executor.beginTurn(isHurried: false)
    defer {
      executor.endTurn()
      executor.leaveThread()
    }
    return debugger.isActive ? try runForDebugger() : try runGuest()
  }

  /// Until there is a reason to stop.
  func runGuest() throws(TechniqueFailure) -> StopReason {
    while true {
      if processor.doorbell.takeStopRequest() { return .stopRequested }
      passTurn()
      processor.doorbell.silence()
      switch try domain.lock.withLock({ _ throws(TechniqueFailure) in try prepare() }) {
      case .stop(let reason): return reason
      case .rest(let deadline): sleep(until: deadline)
      case .run(let deadline, let serving):
        if let reason = step(until: deadline, serving: serving) { return reason }
      }
    }
  }

  /// Only this processor itself says that it yields.
  func passTurn() {
    let isYielding = processor.isYielding
    processor.isYielding = false
    executor.passTurn(isYielding: isYielding)
  }

  func sleep(until deadline: UInt64) {
    executor.endTurn()
    processor.doorbell.sleep(until: deadline)
    executor.beginTurn(isHurried: true)
  }

  /// - Parameter holdsBack: interrupts and upcalls wait, because a debugger steps.
  func prepare(holdsBack: Bool = false) throws(TechniqueFailure) -> Plan {
    if let reason = endingReason { return .stop(reason) }
    domain.lookAround(processor)
    if let reason = endingReason { return .stop(reason) }
    let watchdog = processor.number == 0 ? domain.nextWatchdog : .max
    guard processor.isUp else { return .rest(until: watchdog) }
    if let start = processor.start {
      processor.loads.begin(with: start)
      processor.start = nil
    }
    guard processor.rest == .none else { return .rest(until: min(processor.deadline, watchdog)) }
    if !holdsBack {
      processor.delivery.deliverInterrupt()
      processor.delivery.deliverUpcall()
    }
    domain.memory.removeStaleTranslations()
    if let reason = endingReason { return .stop(reason) }
    try executor.enter(processor.view, isKernel: processor.mode == .kernel)
    executor.set(
      DomainControls(isTaskSwitched: processor.isTaskSwitched, control4: CR4(rawValue: processor.control4)))
    processor.updateRunState()
    let deadline = min(processor.deadline, watchdog)
    // The guest may open its mask without a call, and Xen delivers what is pending at its next return to the guest, for
    // whatever reason. So one is not far away here either, and the executor doesn't answer calls by itself meanwhile.
    guard processor.hasPendingUpcall else {
      return .run(until: deadline, serving: domain.layout == .bits64 && processor.mode == .kernel)
    }
    return .run(until: min(deadline, monotonicNanoseconds() &+ Self.glance), serving: false)
  }

  /// How long guest code may run with an upcall pending until its mask is looked at again, in nanoseconds.
  private static let glance: UInt64 = 10_000_000

  /// Runs guest code up to its next trap and answers it.
  /// - Returns: why the run ends, if it does.
  func step(until deadline: UInt64, serving: Bool) -> StopReason? {
    let entered = monotonicNanoseconds()
    executor.limitTableLoads(processor.tableLoops.loadsBefore)
    var stop: StopReason?
    do {
      let trap = try executor.run(&processor.registers, servesCalls: serving, until: deadline)
      ownCounters.count(.nanosecondsInGuest, monotonicNanoseconds() &- entered)
      ownCounters.count(.exit)
      try domain.lock.withLock { _ in
        Hypercall.count(executor.takeServed(), processor)
        guard domain.ending == nil else { return }
        if debugger.isActive { stop = try answerForDebugger(trap) } else { try answer(trap) }
      }
      return stop
    } catch {
      let reason: String
      switch error {
      // The view will be made anew: nothing of the guest was lost with it.
      case MappingRefusal.viewIsGone: return processor.doorbell.takeStopRequest() ? .stopRequested : nil
      case let lost as GuestCodeLost:
        reason = lost.reason
        if domain.lock.withLock({ _ in loseUserCode() }) { return nil }
      default: reason = "\(error)"
      }
      return processor.doorbell.takeStopRequest() ? .stopRequested : .crashed(crashReport(reason))
    }
  }

  /// User code that makes its executor lose it has lost its registers and nothing else: its kernel is elsewhere, and is told
  /// of a fault without a place.
  /// - Returns: whether it was user code.
  private func loseUserCode() -> Bool {
    guard processor.mode == .user else { return false }
    processor.count(.lostUserCode)
    let (fsBase, gsBase) = (processor.registers.fsBase, processor.registers.gsBase)
    processor.registers = DomainRegisters()
    (processor.registers.fsBase, processor.registers.gsBase) = (fsBase, gsBase)
    processor.delivery.raiseWithoutPlace(.generalProtection, errorCode: 0)
    return true
  }

  func answer(_ trap: DomainTrap) throws(MappingRefusal) {
    switch trap {
    case .interrupted:
      ownCounters.count(.exitInterrupted)
      processor.count(.interrupted)
    case .systemCall: systemCall()
    case .systemCall32: processor.delivery.systemCall32()
    case .foreignSystemCall(let call): foreignSystemCall(call)
    case .lostSystemCall(let call): processor.delivery.callWithoutPlace(call)
    case .hostPageCall(let address): callOfHostPage(address)
    case .memoryFailure(let address):
      domain.end(.crashed("the host can't provide the guest's memory at \(hexadecimal(address))"))
    case .exception(let vector, let code, let address): try exception(vector, code, address)
    }
  }

  /// INT 80h as it is in memory, little endian, and the error code of INT that may not be: it names the vector (AMD64 APM
  /// vol. 2, 8.4.1).
  private static let legacyVector = 0x80
  private static let legacyCall: UInt16 = 0x80cd
  private static let legacyError: UInt64 = 0x80 << 3 | 1 << 1

  private func foreignSystemCall(_ call: DomainTrap.LostSystemCall) {
    let place = processor.registers.rip &- 2
    guard (try? domain.memory.read(UInt16.self, place, root: processor.root)) == Self.legacyCall else {
      return processor.delivery.callWithoutPlace(call)
    }
    processor.registers.rip = place
    InstructionEmulation(processor: processor).softwareInterrupt(Self.legacyVector, length: 2, Self.legacyError)
  }

  private func systemCall() {
    if domain.layout == .bits32 {
      domain.end(.crashed("a 32-bit guest executes 64-bit code at \(hexadecimal(processor.registers.rip))"))
    } else if processor.mode == .kernel {
      processor.count(.hypercall)
      Hypercall.perform(processor)
    } else {
      processor.count(.systemCall)
      processor.delivery.systemCall()
    }
  }

  /// To the guest there is nothing; the code has returned from it, which is taken back.
  private func callOfHostPage(_ address: UInt64) {
    processor.count(.hostPageCall)
    processor.registers.rsp &-= 8
    processor.registers.rip = address
    let code: PageFaultError = processor.mode == .user ? [.fetch, .user] : .fetch
    processor.delivery.raisePageFault(address, errorCode: UInt64(code.rawValue))
  }

  private func exception(_ vector: UInt8, _ code: UInt64, _ address: UInt64) throws(MappingRefusal) {
    let emulation = InstructionEmulation(processor: processor)
    let known = ExceptionVector(rawValue: vector)
    switch known {
    case .pageFault:
      let code = PageFaultError(rawValue: UInt32(truncatingIfNeeded: code))
      let isTableLoad = try PageFaults(processor: processor, executor: executor).answer(address, code)
      if isTableLoad, !debugger.isActive { processor.tableLoops.follow(for: executor) }
      return
    case .generalProtection: return emulation.generalProtection(code & 0xffff)
    case .invalidOpcode: if emulation.emulateIdentification() { return processor.count(.identification) }
    case .debug: processor.debugRegisters.noteSingleStep()
    // As Xen has it: the kernel finds it cleared.
    case .deviceNotAvailable: processor.isTaskSwitched = false
    default: break
    }
    processor.trapCounts.add(exception: vector, isUser: processor.mode == .user)
    processor.delivery.raise(vector: vector, errorCode: known?.hasErrorCode ?? false ? code & 0xffff : nil)
  }

  // MARK: Ends

  var endingReason: StopReason? {
    guard let ending = domain.ending else { return nil }
    switch ending {
    case .crashed(let summary): return .crashed(crashReport(summary))
    case .shutdown(let reason):
      domain.console.drain()
      switch ShutdownReason(rawValue: reason) {
      case .powerOff: return domain.store.exitCode.map { .exited(code: $0) } ?? .shutdown
      case .reboot: return domain.store.exitCode.map { .exited(code: $0) } ?? .reset
      case .crash: return .crashed(crashReport("the guest says that it crashed (SHUTDOWN_crash)"))
      case .watchdog: return .crashed(crashReport("the guest's watchdog has run out (SHUTDOWN_watchdog)"))
      default: return .crashed(crashReport("the guest shut down for reason \(reason), which is not done here"))
      }
    }
  }

  private func crashReport(_ summary: String) -> CrashReport {
    var state = MachineState()
    processor.copyRegisters(to: &state)
    return CrashReport(summary: summary, state: state, instruction: processor.instructionBytes().array)
  }

  /// Hypercalls by name, traps by cause, page-table work, and the executor's own.
  public var details: [String: UInt64] {
    domain.lock.withLock { _ in
      var details = executor.details
      for (cause, count) in processor.trapCounts.byName { details["trap: \(cause)"] = count }
      details["switches between kernel and user mode"] = processor.modeSwitchCount
      details["upcalls"] = processor.upcallCount
      let interpreted = processor.tableLoops.instructionCount
      if interpreted > 0 { details["instructions interpreted for the machine-to-physical table"] = interpreted }
      if processor.number == 0 { details.merge(domain.details) { $1 } }
      return details
    }
  }
}

/// Why a domain ends (SHUTDOWN_…, Xen's public header sched.h).
enum ShutdownReason: UInt32 {
  case powerOff, reboot, suspend, crash, watchdog
}
