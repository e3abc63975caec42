import Glibc
import TrivisorDevices
import TrivisorTranslation
import TrivisorVMM
import TrivisorX86
import TrivisorXenDomain

extension TranslationStopHandle: Interruptible {
  func interrupt(_ number: Int) { kickFromOutside() }
}

/// Runs the code of a domain's processor translated: "paravirtual, translated". Kernel and user code are at CPL 3 to the engine;
/// their two roots are two views of its TLB, so going from one to the other flushes nothing.
final class TranslatedExecutor: DomainExecutor {
  private let space: TranslatedSpace
  private let number: Int
  private let surroundings: DomainSurroundings
  private let engine: TranslatedProcessor
  private let code: DomainCode
  private let doorbell: Doorbell
  private var alarm: ProcessorAlarm
  private var runCount: UInt64 = 0
  private var isKernel = true
  private var watched: Watchpoint?

  /// - Parameter number: the processor's.
  init(_ space: TranslatedSpace, number: Int, doorbell: Doorbell) {
    self.space = space
    self.number = number
    let place = space.places[number]
    (engine, code, surroundings) = (place.engine, place.code, place.surroundings)
    self.doorbell = doorbell
    let (stop, turns) = (engine.stop, space.turns)
    alarm = ProcessorAlarm { stop.kickFromOutside() }
    doorbell.whenRung { turns.hurry(number) }
  }

  func enterThread() throws(TechniqueFailure) { try engine.enterThread() }
  func leaveThread() { engine.leaveThread() }

  func beginTurn(isHurried: Bool) {
    space.turns.begin(number, isHurried: isHurried)
    engine.turn.enter()
  }

  func endTurn() {
    engine.turn.leave()
    space.turns.end()
  }

  func passTurn(isYielding: Bool) {
    guard isYielding || space.turns.isOver else { return }
    endTurn()
    if isYielding { sched_yield() }
    beginTurn(isHurried: false)
  }

  func enter(_ view: AddressView, isKernel: Bool) {
    self.isKernel = isKernel
    space.enter(number, root: view.root, isKernel: isKernel)
  }

  func set(_ controls: DomainControls) {
    code.setTaskSwitched(controls.isTaskSwitched)
    // Xen carries RDTSC out for kernels.
    code.setTimeStampDisabled(!isKernel && controls.control4.contains(.timeStampDisable))
  }

  func run(
    _ registers: inout DomainRegisters, servesCalls: Bool, until deadline: UInt64
  ) throws(GuestCodeLost) -> DomainTrap {
    runCount &+= 1
    _ = engine.settle()
    // Somebody has rung meanwhile.
    guard doorbell.enter(engine.stop) else { return .interrupted }
    defer { doorbell.leave() }
    // So has who waits for his turn.
    guard !space.turns.isOver else { return .interrupted }
    load(registers)
    alarm.set(deadline, now: monotonicNanoseconds())
    engine.adoptOrders()
    let interruption = engine.run()
    save(&registers)
    switch interruption {
    case .exception(let exception):
      // What it had used before it faulted does not count; a single step comes behind an instruction that counts.
      engine.beginException()
      noteWatched(engine.stopBehindException())
      return trap(exception, &registers)
    case .stop(.debugger(let stop)):
      noteWatched(stop)
      return .interrupted
    case .stop:
      if let address = surroundings.takeRefusedStore() {
        engine.beginException()
        let code: PageFaultError = [.present, .write]
        return .exception(
          vector: ExceptionVector.pageFault.rawValue, errorCode: UInt64(code.rawValue), address: address)
      }
      guard code.takeSystemCall() else { return .interrupted }
      // As SYSCALL leaves them.
      (registers.rcx, registers.r11) = (registers.rip, registers.rflags)
      guard registers.isIn64BitCode else {
        registers.setFlat(code: Selectors.code32, stack: Selectors.data64, .bits64)
        return .systemCall32
      }
      registers.enterFlat64()
      return .systemCall
    case .unsupported(let name): throw GuestCodeLost("\(name) is not translated yet")
    }
  }

  private func load(_ registers: DomainRegisters) {
    for number in 0..<16 { engine.general[number] = registers[general: number] }
    engine.rip = registers.rip
    engine.flags = RFLAGS(rawValue: registers.rflags).intersection(.defined).union([.alwaysOne, .interrupt])
      .subtracting([.ioPrivilegeLevel, .virtual8086])
    code.segments = registers.segments
  }

  private func save(_ registers: inout DomainRegisters) {
    for number in 0..<16 { registers[general: number] = engine.general[number] }
    (registers.rip, registers.rflags) = (engine.rip, engine.flags.rawValue)
    registers.segments = code.segments
  }

  /// INT3 and INTO, and which exceptions they are.
  private static let trappingBytes: [(vector: ExceptionVector, byte: UInt8)] = [(.breakpoint, 0xcc), (.overflow, 0xce)]
  /// Of an error code: it is about an entry of the vector table, named from bit 3 on.
  private static let isAboutVector: UInt32 = 2

  /// Without a vector table INT3 and INTO are general protection faults that name their vector; natively they are traps behind
  /// themselves.
  private func trap(_ exception: GuestException, _ registers: inout DomainRegisters) -> DomainTrap {
    let code = exception.errorCode ?? 0
    if exception.vector == ExceptionVector.generalProtection.rawValue, code & 7 == Self.isAboutVector {
      for (vector, byte) in Self.trappingBytes
      where code >> 3 == UInt32(vector.rawValue) && self.code.nextByte == byte {
        registers.rip &+= 1
        return .exception(vector: vector.rawValue, errorCode: 0, address: 0)
      }
    }
    return .exception(vector: exception.vector, errorCode: UInt64(code), address: exception.address ?? 0)
  }

  func extendedState() -> ExtendedState { code.extendedState }

  func setExtendedState(_ state: ExtendedState) throws(TechniqueFailure) {
    guard code.setExtendedState(state) else {
      throw TechniqueFailure(
        call: "writing the vector registers", reason: "they are of a processor that has others than this one")
    }
  }

  // MARK: A debugger

  let seesWatchedBytes = true

  func watch(_ points: [Watchpoint]) { engine.follow(points.isEmpty ? .none : DebuggerOrders(watchpoints: points)) }

  private func noteWatched(_ stop: DebuggerStop?) {
    if case .watchpoint(let point)? = stop { watched = point }
  }

  func takeWatched() -> Watchpoint? {
    defer { watched = nil }
    return watched
  }

  /// The engine walks the tables itself.
  func map(_ runs: [PageRun], writable: Bool, executable: Bool) {}

  func canReach(_ address: UInt64) -> Bool { true }

  func takeServed() -> ServedCalls { ServedCalls() }

  /// The table is memory.
  func limitTableLoads(_ count: UInt32) {}

  var details: [String: UInt64] { number == 0 ? engine.details.merging(space.details) { $1 } : engine.details }

  /// Leaving translated code for a look-up or a jump is an exit, too.
  var counters: Counters {
    var counters = engine.counters
    counters[.exit] &-= min(runCount, counters[.exit])
    return counters
  }
}
