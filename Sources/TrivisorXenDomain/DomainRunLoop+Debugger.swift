// A debugger from outside. Guest code runs natively and deprivileged, so breakpoints are INT3 in the domain's memory while it
// runs, and steps are the trap flag in the process that runs it. The flag is taken out of what the guest sees: PUSHF's image,
// R11 of SYSCALL, the frames of its traps. Its own trap flag stays its own: what that asks for is delivered besides.
//
// Where the executor doesn't see by itself which bytes are used, pages with watched bytes are not mapped, so that each access faults.
// The instruction is then stepped with the page there, and it has used the bytes if the fault was at one of them, or if they have
// changed. What the hypervisor itself writes there, frames above all, is seen by that they have changed.

import Synchronization
import TrivisorVMM
import TrivisorX86

/// What a debugger from outside wants of a virtual processor.
struct DomainDebugger {
  /// One instruction, as it was before it was run.
  struct Step {
    let before: DomainRegisters
    let instruction: SteppedInstruction
    /// The flags that POPF or IRET will load.
    let loadedFlags: UInt64?

    var hasOwnTrap: Bool { before.rflags & Flags.trap != 0 }
  }

  var orders = DebuggerOrders.none {
    didSet { isActive = orders != .none }
  }
  /// There are any.
  private(set) var isActive = false
  /// Guest physical addresses of INT3 for them.
  var places: Set<UInt64> = []
  /// The one that is being made.
  var step: Step?
  /// An access to a page with watched bytes, which is still to be made.
  var watched: (address: UInt64, isWrite: Bool)?
}

extension Domain {
  /// Whether what is there may be changed behind the domain's back: not what was checked when it became a page table or
  /// descriptors.
  public func mayBeWritten(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    lock.withLock { _ in
      guard count > 0, let host = memory.guest.host(address, count: count) else { return count == 0 }
      let frames = memory.frames
      let (first, last) = (frames.frame(of: host), frames.frame(of: host + Int(count - 1)))
      return (first...last).allSatisfy { memory.tables.isWritable($0) || frames.isHypervisors($0) }
    }
  }
}

extension DomainRunLoop {
  /// - Throws: `TechniqueFailure` naming what of the orders can't be had.
  public func follow(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    domain.planted.remove(debugger.places)
    if !unmappedPoints.isEmpty { domain.lock.withLock { _ in domain.watcherCount -= 1 } }
    if executor.seesWatchedBytes { executor.watch(orders.watchpoints) }
    debugger = DomainDebugger()
    guard orders != .none else { return }
    var places: Set<UInt64> = []
    for address in orders.allBreakpoints {
      guard let physical = codePlace(address), places.contains(physical) || domain.planted.plant(physical) else {
        domain.planted.remove(places)
        throw TechniqueFailure(
          call: "setting a breakpoint", reason: "there is no memory of the guest's at \(hexadecimal(address))")
      }
      places.insert(physical)
    }
    debugger.orders = orders
    debugger.places = places
    guard !unmappedPoints.isEmpty else { return }
    domain.lock.withLock { _ in
      domain.watcherCount += 1
      unmap { $0.addEverything() }
    }
  }

  /// Watched bytes whose pages are not mapped.
  private var unmappedPoints: [Watchpoint] { executor.seesWatchedBytes ? [] : debugger.orders.watchpoints }

  private func unmap(_ what: (inout StaleTranslations) -> Void) {
    var stale = StaleTranslations()
    what(&stale)
    domain.translations?.remove(stale)
  }

  /// The way of an address through the page tables that guest code is in.
  public func walk(_ linear: UInt64) -> PageWalk {
    domain.lock.withLock { _ in
      PageWalk(linear, tables: processor.root, levels: domain.memory.tables.levels) { frame, position in
        domain.memory.frames.entry(frame, position)?.pointee
      } place: { frame in
        guestPhysical(frame)
      }
    }
  }

  /// Where a frame is in guest memory, as that counts.
  private func guestPhysical(_ frame: UInt64) -> UInt64? {
    guard let offset = domain.memory.frames.fileOffset(frame) else { return nil }
    return domain.memory.guest.regions.first { offset >= $0.fileOffset && offset - $0.fileOffset < $0.size }
      .map { $0.base.rawValue + (offset - $0.fileOffset) }
  }

  /// Where an instruction is that may be replaced.
  private func codePlace(_ linear: UInt64) -> UInt64? {
    domain.lock.withLock { _ in
      guard let leaf = domain.memory.tables.leaf(linear, root: processor.root), leaf.isPresent else { return nil }
      let frame = PageTables.frame(leaf.entry)
      guard domain.memory.tables.isWritable(frame) else { return nil }
      return guestPhysical(frame).map { $0 | linear & 4095 }
    }
  }

  // MARK: Runs

  func runForDebugger() throws(TechniqueFailure) -> StopReason {
    defer { debugger.step = nil }
    if debugger.orders.steps { return try stepWatching() }
    if debugger.orders.allBreakpoints.contains(processor.registers.rip) {
      let reason = try stepWatching()
      guard reason == .debugger(.step) else { return reason }
      if let stop = stop(at: processor.registers.rip) { return stop }
    }
    while true {
      let reason = try runGuest()
      guard debugger.watched != nil else { return reason }
      let step = try stepWatching()
      guard step == .debugger(.step) else { return step }
      if let stop = stop(at: processor.registers.rip) { return stop }
    }
  }

  // MARK: Watchpoints

  /// One instruction, with the pages of watched bytes there.
  private func stepWatching() throws(TechniqueFailure) -> StopReason {
    let points = unmappedPoints
    guard !points.isEmpty else { return try stepOnce() }
    let before = points.map(contents)
    defer {
      debugger.watched = nil
      domain.lock.withLock { _ in
        unmap { stale in
          for point in points {
            let first = point.address & ~4095
            stale.add(first, size: ((point.address &+ point.length &+ 4095) & ~4095) &- first)
          }
        }
      }
    }
    let reason = try stepOnce()
    guard reason == .debugger(.step) else { return reason }
    for (point, old) in zip(points, before) {
      // A page that was not there has faulted for the guest, which will come again.
      let isAt = debugger.watched.map { point.isHit(by: $0.address, count: 1, isWrite: $0.isWrite) } ?? false
      if (isAt && old != nil) || (point.use != .read && contents(point) != old) { return .debugger(.watchpoint(point)) }
    }
    return reason
  }

  private func contents(_ point: Watchpoint) -> [UInt8]? {
    domain.lock.withLock { _ in lockedContents(point) }
  }

  private func lockedContents(_ point: Watchpoint) -> [UInt8]? {
    try? domain.memory.read(point.address, count: Int(truncatingIfNeeded: point.length), root: processor.root)
  }

  /// Whether a fault is one of a page that is not mapped because of what is watched there.
  private func isWatched(_ trap: DomainTrap) -> Bool {
    let points = unmappedPoints
    guard !points.isEmpty, case .exception(ExceptionVector.pageFault.rawValue, let code, let address) = trap else {
      return false
    }
    let isInPage = points.contains { point in
      // Modulo 2^64, as the bytes of one may be.
      let first = point.address & ~4095
      return (address & ~4095) &- first <= ((point.address &+ point.length &- 1) & ~4095) &- first
    }
    guard isInPage else { return false }
    let isWrite = PageFaultError(rawValue: UInt32(truncatingIfNeeded: code)).contains(.write)
    // The first of several accesses counts, unless a later one is at the bytes.
    if debugger.watched == nil || points.contains(where: { $0.isHit(by: address, count: 1, isWrite: isWrite) }) {
      debugger.watched = (address, isWrite)
    }
    return true
  }

  private func stop(at address: UInt64) -> StopReason? {
    guard debugger.orders.allBreakpoints.contains(address) else { return nil }
    return .debugger(.breakpoint(isHardware: !debugger.orders.breakpoints.contains(address)))
  }

  private func stepOnce() throws(TechniqueFailure) -> StopReason {
    while true {
      if processor.doorbell.takeStopRequest() { return .stopRequested }
      passTurn()
      processor.doorbell.silence()
      let rested = processor.rest != .none || !processor.isUp
      switch try domain.lock.withLock({ _ throws(TechniqueFailure) in try prepare(holdsBack: !rested) }) {
      case .stop(let reason): return reason
      case .rest(let deadline): sleep(until: deadline)
      case .run(let deadline, _):
        // It was woken, and stands before its upcall's first instruction.
        if rested { return .debugger(.step) }
        domain.lock.withLock { _ in beginStep() }
        let place = domain.lock.withLock { _ in physicalRIP }
        let reason = try domain.planted.withOriginal(place) { step(until: deadline, serving: false) }
        if let reason { return reason }
      }
    }
  }

  private var physicalRIP: UInt64? {
    let place = processor.linear(processor.registers.rip)
    guard let leaf = domain.memory.tables.leaf(place, root: processor.root), leaf.isPresent else { return nil }
    return guestPhysical(PageTables.frame(leaf.entry)).map { $0 | place & 4095 }
  }

  private func beginStep() {
    let registers = processor.registers
    let instruction = SteppedInstruction(code: registers.cs, is64Bit: registers.isIn64BitCode) { place in
      try? domain.memory.read(UInt8.self, processor.linear(registers.rip &+ UInt64(place)), root: processor.root)
    }
    let image: UInt64? =
      switch instruction.kind {
      case .popFlags: registers.rsp
      case .interruptReturn: registers.rsp &+ UInt64(2 * instruction.operandSize)
      default: nil
      }
    let loaded = image.flatMap { try? domain.memory.read(UInt16.self, $0, root: processor.root) }
    debugger.step = DomainDebugger.Step(
      before: registers, instruction: instruction, loadedFlags: loaded.map { UInt64($0) })
    processor.registers.rflags |= Flags.trap
  }

  // MARK: Traps

  /// Answers a trap of guest code that a debugger looks at.
  /// - Returns: why the run ends, if it does.
  func answerForDebugger(_ trap: DomainTrap) throws(MappingRefusal) -> StopReason? {
    guard executor.seesWatchedBytes, !debugger.orders.watchpoints.isEmpty else { return try answerDebugged(trap) }
    let used = executor.takeWatched()
    let points = debugger.orders.watchpoints.filter { $0.use != .read }
    let (root, before) = (processor.root, points.map(lockedContents))
    let reason = try answerDebugged(trap)
    if let used { return .debugger(.watchpoint(used)) }
    guard root == processor.root, let changed = zip(points, before).first(where: { lockedContents($0) != $1 })?.0 else {
      return reason
    }
    return .debugger(.watchpoint(changed))
  }

  private func answerDebugged(_ trap: DomainTrap) throws(MappingRefusal) -> StopReason? {
    let isWatched = isWatched(trap)
    if let step = debugger.step {
      debugger.step = nil
      return try answerStep(trap, step)
    }
    // Out of the loop, and on with a step.
    if isWatched { return .stopRequested }
    if case .exception(ExceptionVector.breakpoint.rawValue, _, _) = trap,
      let stop = stop(at: processor.registers.rip &- 1)
    {
      processor.registers.rip &-= 1
      return stop
    }
    try answer(trap)
    return nil
  }

  private func answerStep(_ trap: DomainTrap, _ step: DomainDebugger.Step) throws(MappingRefusal) -> StopReason? {
    let isTrap = if case .exception(ExceptionVector.debug.rawValue, _, _) = trap { true } else { false }
    var trapFlag = step.hasOwnTrap
    if isTrap {
      switch step.instruction.kind {
      case .pushFlags: correctImage(trapFlag)
      case .popFlags, .interruptReturn: trapFlag = (step.loadedFlags ?? 0) & Flags.trap != 0
      default: break
      }
    }
    if trap == .systemCall {
      processor.registers.r11 = processor.registers.r11 & ~Flags.trap | (trapFlag ? Flags.trap : 0)
    }
    processor.registers.rflags = processor.registers.rflags & ~Flags.trap | (trapFlag ? Flags.trap : 0)
    // The guest's own single step is answered by it besides.
    if isTrap, !step.hasOwnTrap { return .debugger(.step) }
    let before = processor.registers
    try answer(trap)
    // What the domain has answered without the guest, such as a page that was not mapped yet, is no step.
    return processor.registers == before && !isTrap ? nil : .debugger(.step)
  }

  /// Of the flags that PUSHF has stored.
  private func correctImage(_ trapFlag: Bool) {
    let place = processor.registers.rsp
    guard let image = try? domain.memory.read(UInt16.self, place, root: processor.root) else { return }
    let flag = UInt16(truncatingIfNeeded: Flags.trap)
    try? domain.memory.write(image & ~flag | (trapFlag ? flag : 0), to: place, root: processor.root)
  }
}
