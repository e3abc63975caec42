// A virtual processor of a domain: the run loop.
//
//     events, upcalls ─▶ guest code (sandbox) ─▶ trap ─┬─ SYSCALL ─▶ hypercall, or the guest's own system call
//          ▲                                           ├─ #PF: in the guest's tables? map it : the guest's fault
//          │                                           ├─ #GP: emulate : the guest's fault
//          └──── stale translations removed ◀──────────┴─ other exceptions: the guest's
//
// Each root of page tables has a sandboxed process with a thread for each virtual processor. Which of them runs follows
// from the mode: a guest kernel and its user code have roots of their own.

import Boot
import Glibc
import Sandbox
import Synchronization
import SystemPackage
import VMM

/// One virtual CPU of a `ParavirtPartition`.
final class ParavirtProcessor: Processor {
  private let number: Int
  private let partition: ParavirtPartition
  private let doorbell: Doorbell
  /// Where guest code ran last: its floating-point and vector registers are there.
  private var lastThread: SandboxThread?
  private var registers = UserRegisters()
  /// What of a state a domain has no use for.
  private var machine = MachineState()
  private(set) var counters = Counters()
  private var rootSwitchCount: UInt64 = 0

  init(number: Int, partition: ParavirtPartition, doorbell: Doorbell) {
    self.number = number
    self.partition = partition
    self.doorbell = doorbell
  }

  var stopHandle: any StopHandle { doorbell }

  var isHaltedForGood: Bool {
    guard let domain = partition.domain else { return number > 0 }
    return domain.lock.withLock { _ in domain.isHaltedForGood(domain.processors[number]) }
  }

  /// What to do next.
  private enum Plan {
    case stop(StopReason)
    case rest(until: UInt64)
    case run(GuestAddressSpace, until: UInt64, serving: Bool)
  }

  func run() throws(TechniqueFailure) -> StopReason {
    guard number > 0 || partition.domain != nil else {
      return .crashed(CrashReport(summary: "the image has overwritten what the domain builder made of it"))
    }
    while true {
      if doorbell.takeStopRequest() { return .stopRequested }
      doorbell.silence()
      guard let domain = partition.domain, let spaces = partition.spaces else {
        doorbell.sleep(until: .max)
        continue
      }
      let plan = try domain.lock.withLock { _ throws(TechniqueFailure) in
        try prepare(domain, domain.processors[number], spaces)
      }
      switch plan {
      case .stop(let reason): return reason
      case .rest(let deadline): doorbell.sleep(until: deadline)
      case .run(let space, let deadline, let serving):
        if let reason = step(domain, space, until: deadline, serving: serving) { return reason }
      }
    }
  }

  private func prepare(
    _ domain: Domain, _ processor: VirtualProcessor, _ spaces: AddressSpaceCache
  ) throws(TechniqueFailure) -> Plan {
    if let reason = endingReason(domain) { return .stop(reason) }
    domain.lookAround(processor)
    if let reason = endingReason(domain) { return .stop(reason) }
    guard processor.isUp else { return .rest(until: number == 0 ? domain.nextWatchdog : .max) }
    if let start = processor.start {
      registers = start
      processor.start = nil
    }
    guard processor.rest == .none else {
      return .rest(until: min(processor.deadline, number == 0 ? domain.nextWatchdog : .max))
    }
    if processor.isYielding {
      processor.isYielding = false
      sched_yield()
    }
    domain.deliverUpcall(processor, &registers)
    domain.removeStaleTranslations()
    if let reason = endingReason(domain) { return .stop(reason) }
    var inUse: Set<AddressView> = []
    for other in domain.processors where other.isUp { inUse.insert(other.view) }
    let space = try spaces.space(for: processor.view, inUse: inUse)
    domain.updateRunState(processor)
    let deadline = min(processor.deadline, number == 0 ? domain.nextWatchdog : .max)
    // The guest may open its mask without a call, and Xen delivers what is pending at its next return to the guest, for
    // whatever reason. So one is not far away here either, and the sandbox doesn't answer calls by itself meanwhile.
    guard processor.hasPendingUpcall else {
      let serves = domain.layout == .bits64 && processor.mode == .kernel
      return .run(space, until: deadline, serving: serves)
    }
    return .run(space, until: min(deadline, monotonicNanoseconds() &+ Self.glance), serving: false)
  }

  /// How long guest code may run with an upcall pending until its mask is looked at again.
  private static let glance: UInt64 = 10_000_000

  /// Runs guest code up to its next trap and answers it.
  private func step(
    _ domain: Domain, _ space: GuestAddressSpace, until deadline: UInt64, serving: Bool
  ) -> StopReason? {
    do {
      let thread = try space.thread(number) { partition.hostProcessor(for: $0) }
      if let lastThread, lastThread !== thread {
        try thread.copyExtendedState(from: lastThread)
        rootSwitchCount &+= 1
      }
      lastThread = thread
      guard doorbell.enter(space) else { return nil }
      defer { doorbell.leave() }
      thread.setServesSegmentBases(serving)
      let entered = monotonicNanoseconds()
      let trap = try thread.run(&registers, until: deadline)
      counters.count(.nanosecondsInGuest, monotonicNanoseconds() &- entered)
      counters.count(.exit)
      try domain.lock.withLock { _ in
        domain.countServed(thread.takeServedCount(), domain.processors[number])
        guard domain.ending == nil else { return }
        try answer(trap, domain, domain.processors[number], space)
      }
      return nil
    } catch {
      let reason: String
      switch error {
      // The process ended while no guest code of this processor was in it: there will be another for its root.
      case MappingFailure.ended: return doorbell.takeStopRequest() ? .stopRequested : nil
      case let failure as MappingFailure: reason = "the host refuses its mappings: \(failure)"
      default:
        reason = "\(error)"
        if domain.lock.withLock({ _ in loseUserCode(domain, domain.processors[number]) }) { return nil }
      }
      return doorbell.takeStopRequest() ? .stopRequested : .crashed(crashReport(reason, domain))
    }
  }

  /// User code that makes its process die has lost its registers and nothing else: its kernel is in another process, and
  /// is told of a fault without a place.
  /// - Returns: whether it was user code.
  private func loseUserCode(_ domain: Domain, _ processor: VirtualProcessor) -> Bool {
    guard processor.mode == .user else { return false }
    processor.count("user code that ended its process")
    lastThread = nil
    let (fsBase, gsBase) = (registers.fsBase, registers.gsBase)
    registers = UserRegisters()
    (registers.fsBase, registers.gsBase) = (fsBase, gsBase)
    domain.raiseWithoutPlace(vector: ExceptionVector.generalProtection, errorCode: 0, processor, &registers)
    return true
  }

  private func answer(
    _ trap: SandboxTrap, _ domain: Domain, _ processor: VirtualProcessor, _ space: GuestAddressSpace
  ) throws(MappingFailure) {
    switch trap {
    case .interrupted:
      counters.count(.exitInterrupted)
      processor.count("interrupted from outside")
    case .systemCall(let rip):
      guard rip == registers.rip else { return callOfHostPage(rip, domain, processor) }
      if domain.layout == .bits32 {
        domain.end(.crashed("a 32-bit guest executes 64-bit code at \(hexadecimal(rip))"))
      } else if processor.mode == .kernel {
        processor.count("hypercall (SYSCALL)")
        domain.hypercall(processor, &registers)
      } else {
        processor.count("system call of the guest's own")
        domain.systemCall(processor, &registers)
      }
    case .foreignSystemCall:
      let legacyCall: [UInt8] = [0xcd, 0x80]
      if let bytes = try? domain.read(registers.rip &- 2, count: 2, root: processor.root), bytes == legacyCall {
        registers.rip &-= 2
        domain.softwareInterrupt(0x80, length: 2, 0x402, processor, &registers)
      } else {
        domain.callWithoutPlace(processor, &registers)
      }
    case .lostSystemCall: domain.callWithoutPlace(processor, &registers)
    case .memoryFailure(let address):
      domain.end(
        .crashed("the host can't provide the guest's memory at \(hexadecimal(space.guestAddress(address)))"))
    case .exception(let vector, let code, let address):
      try answer(vector, code, address, domain, processor, space)
    }
  }

  /// The one page of the host's that is in every process: to the guest there is nothing. The kernel has already returned
  /// from it.
  private func callOfHostPage(_ address: UInt64, _ domain: Domain, _ processor: VirtualProcessor) {
    processor.count("call to the host's vsyscall page")
    registers.rsp &-= 8
    registers.rip = address
    domain.raisePageFault(
      address, errorCode: PageFaultCode.fetch | (processor.mode == .user ? PageFaultCode.user : 0), processor,
      &registers)
  }

  private func answer(
    _ vector: UInt8, _ code: UInt64, _ address: UInt64, _ domain: Domain, _ processor: VirtualProcessor,
    _ space: GuestAddressSpace
  ) throws(MappingFailure) {
    switch vector {
    case 14: return try pageFault(address, code, domain, processor, space)
    case 13: return domain.generalProtection(code & 0xffff, processor, &registers)
    case 6:
      if domain.emulateIdentification(processor, &registers) { return processor.count("CPUID by its prefix, emulated") }
    // DR6.BS: a single step.
    case 1: processor.debugRegisters[6] |= 1 << 14
    default: break
    }
    processor.count("exception \(vector)")
    let hasCode = [8, 10, 11, 12, 17, 21].contains(vector)
    domain.raise(vector: vector, errorCode: hasCode ? code & 0xffff : nil, processor, &registers)
  }

  /// How many pages around one are mapped with it: those that follow it in memory, and others.
  private static let spread: UInt64 = 256
  private static let neighbours: UInt64 = 63

  /// Of the host's error code only the bits for stores, fetches and protection keys say what the guest did; the rest is the
  /// host's own.
  private func pageFault(
    _ hostAddress: UInt64, _ hostCode: UInt64, _ domain: Domain, _ processor: VirtualProcessor,
    _ space: GuestAddressSpace
  ) throws(MappingFailure) {
    let address = space.guestAddress(hostAddress)
    let isWrite = hostCode & PageFaultCode.write != 0
    let isFetch = hostCode & PageFaultCode.fetch != 0
    // Not a mapping's affair: PKRU forbade it, which denies nothing any more.
    let isByKey = hostCode & PageFaultCode.protectionKey != 0
    let leaf = domain.tables.leaf(address & 0xffff_ffff_ffff, root: processor.root)
    let isPresent = leaf?.isPresent ?? false
    if let leaf, isPresent, !isByKey, !isWrite || leaf.isWritable, !isFetch || leaf.isExecutable,
      leaf.isUsers || !processor.view.isUsers, let entry = domain.frames.entry(leaf.table, leaf.position),
      domain.isCanonical(address)
    {
      guard hostAddress < MappingChange.addressLimit else {
        domain.end(
          .crashed("the guest uses address \(hexadecimal(address)), which a process of the host can't have"))
        return
      }
      let bits = PageTables.accessed | (isWrite ? PageTables.dirty : 0)
      if entry.pointee & bits != bits { entry.pointee |= bits }
      processor.count("page fault, mapped")
      try map(address, leaf, domain, space)
      return
    }
    if isWrite, isPresent, !isByKey, let leaf, domain.emulateTableStore(address, leaf, processor, &registers) {
      return processor.count("store into a page table, emulated")
    }
    if domain.emulateTableLoad(address, processor, &registers) {
      return processor.count("machine-to-physical table, emulated")
    }
    processor.count("exception 14")
    var code: UInt64 = 0
    if isPresent { code |= PageFaultCode.present }
    if isWrite { code |= PageFaultCode.write }
    if processor.mode == .user { code |= PageFaultCode.user }
    if isFetch { code |= PageFaultCode.fetch }
    if isByKey, isPresent { code |= PageFaultCode.protectionKey }
    domain.raisePageFault(address, errorCode: code, processor, &registers)
  }

  /// Maps a page, and with it those of the same table that lie beside it in memory, too, or come next, and have been used
  /// in the same way before: their accessed and dirty bits say already what mapping them would hide.
  private func map(
    _ address: UInt64, _ leaf: PageTables.Leaf, _ domain: Domain, _ space: GuestAddressSpace
  ) throws(MappingFailure) {
    guard let first = domain.frames.entry(leaf.table, leaf.position) else { return }
    let entry = first.pointee
    let frame = PageTables.frame(entry)
    let isWritable = leaf.isWritable && entry & PageTables.dirty != 0
    let rights =
      PageTables.present | PageTables.accessed | PageTables.writable | PageTables.noExecute | PageTables.user
    /// The frame of an entry that can be mapped with this one.
    func alike(_ position: UInt64) -> UInt64? {
      guard let other = domain.frames.entry(leaf.table, position)?.pointee else { return nil }
      let hasDirty = !isWritable || other & PageTables.dirty != 0
      return other & rights == entry & rights && hasDirty ? PageTables.frame(other) : nil
    }
    var (low, high) = (leaf.position, leaf.position)
    let mayHaveOthers = isWritable || entry & PageTables.writable == 0
    if mayHaveOthers {
      while high < 511, high - leaf.position < Self.spread, alike(high + 1) == frame &+ (high + 1 - leaf.position) {
        high += 1
      }
      while low > 0, leaf.position - low < Self.spread, alike(low - 1) == frame &- (leaf.position - (low - 1)) {
        low -= 1
      }
    }
    guard let offset = domain.frames.fileOffset(frame &- (leaf.position - low)), domain.frames.isOwned(frame) else {
      return
    }
    let start = (address & ~0xfff) &- leaf.position << 12
    var runs = [GuestAddressSpace.Run(address: start &+ low << 12, count: high - low + 1, fileOffset: offset)]
    var position = high + 1
    while mayHaveOthers, position < min(512, high + 1 + Self.neighbours), let other = alike(position),
      let offset = domain.frames.fileOffset(other), domain.frames.isOwned(other),
      space.hostAddress(start &+ position << 12) < MappingChange.addressLimit
    {
      let last = runs[runs.count - 1]
      if last.fileOffset + last.count << 12 == offset, last.address + last.count << 12 == start &+ position << 12 {
        runs[runs.count - 1].count += 1
      } else {
        runs.append(.init(address: start &+ position << 12, count: 1, fileOffset: offset))
      }
      position += 1
    }
    domain.pageFaultMappings &+= UInt64(runs.count)
    domain.pagesMapped &+= runs.reduce(0) { $0 + $1.count }
    do throws(MappingFailure) {
      try space.map(runs, writable: isWritable, executable: leaf.isExecutable)
    } catch {
      guard case .refused(let reason) = error else { throw error }
      let remedy =
        address < 0x1_0000 ? ": only root may have memory at such addresses (vm.mmap_min_addr)" : ""
      domain.end(
        .crashed("the host can't map the guest's page at \(hexadecimal(address & ~0xfff)) (\(reason))\(remedy)"))
    }
  }

  private func endingReason(_ domain: Domain) -> StopReason? {
    guard let ending = domain.ending else { return nil }
    switch ending {
    case .crashed(let summary): return .crashed(crashReport(summary, domain))
    case .shutdown(let reason):
      domain.console.drain()
      // SHUTDOWN_poweroff, _reboot, _suspend, _crash (sched.h).
      switch reason {
      case 0: return domain.store.exitCode.map { .exited(code: $0) } ?? .shutdown
      case 1: return domain.store.exitCode.map { .exited(code: $0) } ?? .reset
      case 3: return .crashed(crashReport("the guest says that it crashed (SHUTDOWN_crash)", domain))
      case 4: return .crashed(crashReport("the guest's watchdog has run out (SHUTDOWN_watchdog)", domain))
      default: return .crashed(crashReport("the guest shut down for reason \(reason), which is not done here", domain))
      }
    }
  }

  private func crashReport(_ summary: String, _ domain: Domain) -> CrashReport {
    let root = domain.processors[number].root
    var instruction: [UInt8] = []
    while instruction.count < 15,
      let byte = try? domain.read(registers.rip &+ UInt64(instruction.count), count: 1, root: root)
    {
      instruction += byte
    }
    return CrashReport(summary: summary, state: try? readState(), instruction: instruction)
  }

  func begin(_ handover: Handover) throws(TechniqueFailure) {
    guard case .xenDomain(let start) = handover else {
      throw TechniqueFailure(call: "handing a guest over", reason: "it is for a machine, and this is a domain")
    }
    machine.system.cs =
      start.is64Bit
      ? Selectors.segment(Selectors.code64, attributes: 0xa0fb)
      : Selectors.segment(Selectors.kernelCode32, attributes: 0xc0bb)
    machine.system.ss =
      start.is64Bit
      ? Selectors.segment(Selectors.data64, attributes: 0xc0f3)
      : Selectors.segment(Selectors.kernelData32, attributes: 0xc0b3)
    // Without a domain there is nothing to run.
    guard let domain = partition.makeDomain(start) else { return }
    registers = UserRegisters()
    (registers.rip, registers.rsp, registers.rsi) = (start.entry, start.stack, start.startInfo)
    if domain.layout == .bits32 {
      registers.cs = SandboxProcess.codeSelector32
      registers.ss = SandboxProcess.dataSelector32
    }
  }

  func readState() throws(TechniqueFailure) -> MachineState {
    var state = machine
    registers.copy(to: &state)
    if let domain = partition.domain { state.system.cr3 = domain.processors[number].root << 12 }
    return state
  }

  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    machine = state
    let (code, stack) = (registers.cs, registers.ss)
    registers = UserRegisters(state)
    (registers.cs, registers.ss) = (code, stack)
  }

  /// Hypercalls by name, traps by cause, page-table work.
  var details: [String: UInt64] {
    guard let domain = partition.domain else { return [:] }
    return domain.lock.withLock { _ in
      var details: [String: UInt64] = [:]
      let processor = domain.processors[number]
      for (cause, count) in processor.trapCounts { details["trap: \(cause)"] = count }
      details["switches between kernel and user mode"] = processor.modeSwitchCount
      details["switches between address spaces"] = rootSwitchCount
      details["upcalls"] = processor.upcallCount
      guard number == 0 else { return details }
      for (number, count) in domain.hypercallCounts.enumerated() where count > 0 {
        details["hypercall: \(HypercallName.of(UInt64(number)))"] = count
      }
      for (name, count) in domain.notImplementedCounts { details["hypercall refused with -ENOSYS: \(name)"] = count }
      for (what, count) in domain.notHonouredCounts { details["not honoured: \(what.rawValue)"] = count }
      details["page-table entries written"] = domain.tables.updateCount
      details["page tables validated"] = domain.tables.validationCount
      details["mappings made"] = domain.pageFaultMappings
      details["pages mapped"] = domain.pagesMapped
      details["address spaces made"] = partition.spaces?.createdCount ?? 0
      return details
    }
  }
}

extension UserRegisters {
  init(_ state: MachineState) {
    self.init()
    let general = state.general
    (rax, rbx, rcx, rdx) = (general.rax, general.rbx, general.rcx, general.rdx)
    (rsi, rdi, rsp, rbp) = (general.rsi, general.rdi, general.rsp, general.rbp)
    (r8, r9, r10, r11) = (general.r8, general.r9, general.r10, general.r11)
    (r12, r13, r14, r15) = (general.r12, general.r13, general.r14, general.r15)
    (rip, rflags) = (general.rip, general.rflags)
    (fsBase, gsBase) = (state.system.fs.base, state.system.gs.base)
  }

  func copy(to state: inout MachineState) {
    (state.general.rax, state.general.rbx, state.general.rcx, state.general.rdx) = (rax, rbx, rcx, rdx)
    (state.general.rsi, state.general.rdi, state.general.rsp, state.general.rbp) = (rsi, rdi, rsp, rbp)
    (state.general.r8, state.general.r9, state.general.r10, state.general.r11) = (r8, r9, r10, r11)
    (state.general.r12, state.general.r13, state.general.r14, state.general.r15) = (r12, r13, r14, r15)
    (state.general.rip, state.general.rflags) = (rip, rflags)
    (state.system.fs.base, state.system.gs.base) = (fsBase, gsBase)
  }
}
