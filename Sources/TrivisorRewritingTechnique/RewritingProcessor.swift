// One virtual CPU: the loop around translated code.
//
//     find the block at RIP ─▶ cws_enter ─▶ (guest code, block after block) ─▶ a site ─▶ answer it ─▶ …
//
// All of the guest's state is in the state block and in this object whenever Swift runs, between instructions or at the
// memory access of one, so an exception can be delivered from any site.

import TrivisorCWorldSwitch
import TrivisorDevices
import Glibc
import TrivisorInstructionSet
import Synchronization
import TrivisorVMM
import TrivisorX86

/// One virtual CPU of a `RewritingPartition`.
final class RewritingProcessor: Processor {
  let partition: RewritingPartition
  let block: StateBlock
  let mmu: GuestMMU
  let store: TranslationCache
  let translations: AddressTranslations
  let control: ControlState
  @exclusivity(unchecked) var counters = Counters()
  @exclusivity(unchecked) var ledger = Ledger()
  let stop: RewritingStopHandle
  let deviceStores: DeviceStores
  let interrupts: ProcessorInterrupts
  @exclusivity(unchecked) var alarm: ProcessorAlarm
  /// Of the clock in guest memory.
  var clockVersion: UInt32 = 0
  @exclusivity(unchecked) var lostTime = LostTime()

  /// Offset in CS of the instruction in work, or of the next one.
  @exclusivity(unchecked) var rip: UInt64 = 0xfff0
  @exclusivity(unchecked) var activity = Activity.running
  var timestampOffset: UInt64 = 0 {
    didSet {
      interrupts.setTimestampOffset(timestampOffset)
      block.system.pointee.timestamp_offset = timestampOffset
    }
  }
  /// What the instruction before holds back until the next one is complete.
  @exclusivity(unchecked) var shadow = Shadow.none
  /// From `writeState`: to be delivered before the next instruction.
  @exclusivity(unchecked) var pendingEvents = PendingEvents()
  /// The instruction in work reaches memory by elements that a mask selects.
  var selectsElements = false
  /// The breakpoints that accesses of the instruction in work have hit.
  @exclusivity(unchecked) var accessHits: DR6 = []
  /// The instruction in work ends with a single-step trap.
  @exclusivity(unchecked) var isTrapping = false
  /// RFLAGS.RF was set when the instruction in work began.
  @exclusivity(unchecked) var isResuming = false
  /// What FNSTENV stores, but for what translated code has noted since it was entered.
  @exclusivity(unchecked) var x87Pointers = X87Pointers()
  /// The physical pieces of the access that is on the bounce buffer.
  @exclusivity(unchecked) var pending: (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int) = (0, 0, 0, 0)
  /// Of the page that `fetch` found.
  @exclusivity(unchecked) private var fetchedIsGlobal = false
  /// How much of the second page a block may have that begins with an instruction that straddles.
  private static let bytesBehindPage = 256

  // What `ControlState` owns, by the names of the manuals.
  @inline(__always) var system: SystemRegisters { _read { yield control.system } }
  var debug: DebugRegisters {
    _read { yield control.debug }
    _modify { yield &control.debug }
  }
  var modelSpecific: [UInt32: UInt64] {
    _read { yield control.modelSpecific }
    _modify { yield &control.modelSpecific }
  }
  var branchRecord: BranchRecord {
    _read { yield control.branchRecord }
    _modify { yield &control.branchRecord }
  }
  var systemFlags: UInt64 {
    get { control.flags.rawValue }
    set { control.flags = RFLAGS(rawValue: newValue) }
  }
  var stepsOnce: Bool {
    get { control.stepsOnce }
    set { control.stepsOnce = newValue }
  }
  @inline(__always) var mode: CodeMode { _read { yield control.mode } }

  init(partition: RewritingPartition) throws(TechniqueFailure) {
    self.partition = partition
    let block = try StateBlock()
    self.block = block
    mmu = GuestMMU(memory: partition.memory)
    mmu.hasGibibytePages = partition.identification.has(.pdpe1gb)
    store = partition.translations
    translations = AddressTranslations(block, store)
    control = ControlState(block, mmu, translations, store)
    stop = RewritingStopHandle(block)
    deviceStores = DeviceStores(store.codePages, stop, partition.memory)
    interrupts = partition.chipset.processor(0)
    alarm = ProcessorAlarm { [stop] in stop.kickFromOutside() }
    let cache = store.translator.cache
    block.state.pointee.cache_base = UInt64(UInt(bitPattern: cache.executable))
    block.state.pointee.cache_size = UInt64(CodeCache.capacity)
    block.general[2] = 0x600
    block.state.pointee.flags = 0
    mmu.entryChanged = { [unowned store] place in store.invalidate(place, count: 8) }
    let stop = stop
    interrupts.connect { stop.kick() }
    partition.memory.watch.set(deviceStores)
  }

  deinit {
    interrupts.connect(nil)
    partition.memory.watch.set(nil)
    stop.invalidate()
  }

  var stopHandle: any StopHandle { stop }

  var isHaltedForGood: Bool { activity != .running && systemFlags & 0x200 == 0 && !hasEvent }

  // MARK: The loop

  func run() throws(TechniqueFailure) -> StopReason {
    let error = cws_prepare_thread(block.state)
    guard error == 0 else {
      throw TechniqueFailure(call: "sigaltstack or arch_prctl", reason: String(cString: strerror(error)))
    }
    let began = cws_timestamp()
    defer {
      cws_release_thread()
      ledger.total &+= cws_timestamp() &- began
      partition.trace?.flush()
    }
    stop.adoptThread()
    lostTime.enter(now: monotonicNanoseconds())
    while true {
      if stop.isWanted {
        // Signals that wait for this thread, and have no other to go to.
        cws_admit_signals(1)
        cws_admit_signals(0)
      }
      if stop.settle() { return .stopRequested }
      for page in deviceStores.take() { store.invalidate(page << 12, count: 4096) }
      if activity != .running, !waitForEvent() { continue }
      if let reason = deliverPendingEvent() { return reason }
      if let reason = takeEvents() { return reason }
      guard activity == .running else { continue }
      cws_load_x87(block.state)
      let interruption = runUntilInterrupted()
      cws_save_x87(block.state)
      switch interruption {
      case .exception(let exception):
        if let reason = raise(exception) { return reason }
      case .stop(.stopRequested):
        // Answered at the top, where a request cannot be lost.
        continue
      case .stop(let reason):
        return reason
      case .unsupported(let name):
        return .crashed(crashReport("\(name) is not translated yet"))
      }
    }
  }

  func runUntilInterrupted() -> Interruption {
    do throws(Interruption) {
      try runBlocks()
    } catch {
      return error
    }
  }

  private func runBlocks() throws(Interruption) -> Never {
    var target = try findBlock().host
    while true {
      block.state.pointee.target = target
      block.system.pointee.event_pending = interrupts.pending.isEmpty ? 0 : 1
      block.system.pointee.return_is_special =
        pendingEvents.nonMaskableBlocked || control.hasInnerDataSegments ? 1 : 0
      let began = cws_timestamp()
      cws_enter(block.state)
      ledger.guest &+= cws_timestamp() &- began
      control.adopt()
      counters.count(.exit)
      if block.state.pointee.x87_instruction_note | block.state.pointee.x87_operand_note != 0 { settleX87Pointers() }
      if block.state.pointee.signal_vector != CWS_NO_SIGNAL { throw takeSignal() }
      if block.state.pointee.site == CWS_SITE_COMPLETE {
        counters.count(.exitJump)
        rip = block.state.pointee.rip
        shadow = .none
        let next = try findBlock()
        if partition.trace == nil { translations.remember(next, at: rip, isGlobal: fetchedIsGlobal) }
        target = next.host
        continue
      }
      let number = Int(block.state.pointee.site)
      let site = store.translator.sites[number]
      // Where code for any linear address counts from.
      let page = block.state.pointee.page
      if let recipe = site.recipe { arithmeticFlags = recipe.flags(block.general) }
      let isStepping = mode.isSingleStepping
      isTrapping = systemFlags & RFLAGS.trap.rawValue != 0
      switch site.kind {
      case .miss(let access):
        counters.count(.exitMemory)
        rip = page &+ site.rip
        if let place = try resolve(access) {
          target = place
        } else {
          target = try findBlock(separately: true).host
        }
        // A device that was read may have interrupted; this thread does not kick itself.
        if hasEvent { stop.kickFromOutside() }
        continue
      case .segment(let check):
        rip = page &+ site.rip
        let offset = block.state.pointee.address
        if check.mustBeAligned, (offset &+ segment(check.register).base) % UInt64(check.size) != 0 {
          throw .exception(.general)
        }
        try checkSegment(check.register, offset, size: Int(check.size), isWrite: check.isWrite)
        block.state.pointee.t1 = offset
        target = store.translator.cache.base &+ UInt64(check.resume)
        continue
      case .stored(let access):
        rip = page &+ site.rip
        shadow = .none
        let isIntact = try storePending(access, site.block)
        if access.isCall || (isIntact && !mustReturn) {
          target = store.translator.cache.base &+ UInt64(access.next)
          continue
        }
      case .chain(let place, _):
        counters.count(.exitJump)
        rip = page &+ site.rip
        shadow = .none
        let generation = store.generation
        let next = try findBlock()
        if generation == store.generation, partition.trace == nil {
          store.linker.link(number, place, from: site.block, to: next)
        }
        target = next.host
        continue
      case .separate(let place, _):
        counters.count(.exitJump)
        rip = page &+ site.rip
        let generation = store.generation
        let next = try findBlock(separately: true)
        if generation == store.generation, partition.trace == nil {
          store.linker.link(number, place, from: site.block, to: next)
        }
        target = next.host
        continue
      case .across(let place, let unlinked):
        counters.count(.exitJump)
        rip = page &+ site.rip
        shadow = .none
        let generation = store.generation
        let next = try findBlock()
        if generation == store.generation, partition.trace == nil {
          store.linker.linkAcross(
            number, place, unlinked: unlinked, from: site.block, to: next, isGlobal: fetchedIsGlobal)
        }
        target = next.host
        continue
      case .cross(let word, let jump, let branch, let released):
        counters.count(.exitJump)
        rip = page &+ site.rip
        shadow = .none
        if branch >= 0, !LinearAddress.isCanonical(rip) {
          rip = page &+ UInt64(branch)
          setGeneral(.rsp, general(.rsp) &- UInt64(bitPattern: Int64(released)), size: stackSize)
          throw .exception(.general)
        }
        let generation = store.generation
        let next = try findBlock()
        if generation == store.generation, partition.trace == nil {
          store.linker.linkCross(number, word: word, jump: jump, from: site.block, to: next)
        }
        target = next.host
        continue
      case .refetch:
        counters.count(.exitJump)
        rip = page &+ site.rip
        let next = try findBlock()
        if partition.trace == nil { translations.remember(next, at: rip, isGlobal: fetchedIsGlobal) }
        target = next.host
        continue
      case .indirect(let released, let isBranch):
        counters.count(.exitJump)
        if isStepping, isBranch { noteBranch(from: page &+ site.rip, to: block.state.pointee.rip) }
        rip = block.state.pointee.rip
        shadow = .none
        if mode.bits == .bits64 ? !LinearAddress.isCanonical(rip) : rip > UInt64(system.cs.limit) {
          // The fault is the branch's, and RSP is as it was before it.
          rip = page &+ site.rip
          setGeneral(.rsp, general(.rsp) &- UInt64(bitPattern: Int64(released)), size: stackSize)
          throw .exception(.general)
        }
        if !isStepping {
          let next = try findBlock()
          if partition.trace == nil { translations.remember(next, at: rip, isGlobal: fetchedIsGlobal) }
          target = next.host
          continue
        }
      case .shadow:
        rip = page &+ site.rip
        shadow = .interrupts
      case .callOut(let place):
        let instruction = store.translator.instructions[Int(place)]
        rip = page &+ site.rip
        let held = shadow
        shadow = .none
        do throws(Interruption) {
          try emulate(instruction)
        } catch {
          // What has not completed ends no shadow: a repeated instruction that makes way for an event, for instance.
          if case .stop(.stopRequested) = error, rip == page &+ site.rip { shadow = held }
          throw error
        }
        if isStepping || branchRecord.isOn, instruction.transfersByCallOut {
          noteBranch(from: page &+ site.rip, to: rip)
        }
      case .raise(let fault):
        rip = page &+ site.rip
        throw .exception(fault.exception)
      case .unsupported(let reason):
        rip = page &+ site.rip
        throw .unsupported(store.translator.reasons[Int(reason)])
      }
      if isStepping || isTrapping { try finishStep() }
      if mustReturn || stepsOnce { throw .stop(.stopRequested) }
      target = try findBlock().host
    }
  }

  /// What the host's processor raised in translated code, in the guest's terms.
  private func takeSignal() -> Interruption {
    let state = block.state
    let vector = state.pointee.signal_vector
    state.pointee.signal_vector = CWS_NO_SIGNAL
    guard let (owner, fault) = store.fault(at: state.pointee.signal_rip) else {
      return .unsupported("a fault of the host (vector \(vector)) outside of every guest instruction")
    }
    let page = state.pointee.page
    rip = page &+ fault.rip
    if fault.hasOwnRegisters {
      // The exit took host RAX for flags, and R11 for RAX.
      setGeneral(.r11, general(.rax))
      setGeneral(.rax, state.pointee.flags)
    }
    if let spare = fault.spare { block.general[Int(spare)] = state.pointee.scratch.1 }
    if let recipe = fault.recipe {
      arithmeticFlags = recipe.flags(block.general)
    } else if !fault.flagsAreInRAX {
      arithmeticFlags = RFLAGS(rawValue: state.pointee.signal_flags)
    }
    if fault.x87Notes.instruction != 0 { settleX87Pointers(fault.x87Notes) }
    let poll = block.pollAddress
    if vector == 14, (poll..<poll + 4096).contains(state.pointee.signal_address) {
      rip = page &+ owner.key.rip
      // The instruction has not begun.
      if mode.isSingleStepping, isResuming { systemFlags |= RFLAGS.resume.rawValue }
      return .stop(.stopRequested)
    }
    switch vector {
    case 0: return .exception(.divide)
    case 6: return .exception(.invalidOpcode)
    case 13: return .exception(.general)
    case 16:
      guard control.cr0.contains(.numericError) else { return .unsupported("an x87 error reported by IRQ 13") }
      return .exception(.x87)
    case 19:
      return .exception(control.cr4.contains(.osXMMExceptions) ? .simd : .invalidOpcode)
    default:
      return .unsupported("a fault of the host (vector \(vector)) in a guest instruction")
    }
  }

  // MARK: Blocks

  /// The block at RIP, translated if need be.
  /// - Parameter separately: each of its accesses is to check for itself.
  private func findBlock(separately: Bool = false) throws(Interruption) -> Block {
    try control.establish()
    if mode.isSingleStepping { try beginStep() } else { systemFlags &= ~RFLAGS.resume.rawValue }
    if mode.bits == .bits64, !LinearAddress.isCanonical(rip) { throw .exception(.general) }
    let (modeNumber, codeSegment) = (control.modeNumber, control.codeSegment)
    // How many bytes CS has from here on.
    var room = Int.max
    var linear = rip
    if codeSegment != BlockKey.flat {
      guard rip <= codeSegment >> 32 else { throw .exception(.general) }
      room = Int(codeSegment >> 32 - rip) + 1
      linear = (rip &+ codeSegment) & 0xffff_ffff
    }
    let physical = try fetch(linear)
    let isRelative = mode.isRelative
    block.state.pointee.page = isRelative ? linear & ~4095 : 0
    let place = isRelative ? linear & 4095 : rip
    let number = separately ? modeNumber | BlockKey.separate : modeNumber
    let key = BlockKey(
      page: physical >> 12, secondPage: .max, rip: place, mode: number, codeSegment: codeSegment)
    if let found = store.find(key) { return entered(found) }
    if store.translator.cache.isFull {
      store.removeAll()
    }
    let began = cws_timestamp()
    defer { ledger.translator &+= cws_timestamp() &- began }
    let offset = Int(linear & 4095)
    guard let host = mmu.host(physical & ~4095, count: 4096) else {
      throw .unsupported("code in device memory")
    }
    let rest = UnsafeRawBufferPointer(start: host + offset, count: min(4096 - offset, room))
    watchStores(to: physical, host)
    let isCut = rest.count < 15 && store.translator.needsMore(rest, mode: mode)
    if !isCut, let made = store.make(rest, key: key, mode: mode) { return counted(made) }
    // The first instruction goes on in the next page, or beyond CS.
    if room == rest.count { throw .exception(.general) }
    let nextPage = ((linear | 4095) &+ 1) & (mode.bits == .bits64 ? .max : 0xffff_ffff)
    if mode.bits == .bits64, !LinearAddress.isCanonical(nextPage) { throw .exception(.general) }
    let firstIsGlobal = fetchedIsGlobal
    let second = try fetch(nextPage)
    if isRelative, !PageCode.exists(for: second >> 12) { throw .unsupported("code beyond 512 GiB of memory") }
    fetchedIsGlobal = fetchedIsGlobal && firstIsGlobal
    let straddling = BlockKey(
      page: physical >> 12, secondPage: second >> 12, rip: place, mode: number,
      codeSegment: codeSegment)
    if let found = store.find(straddling) { return entered(found) }
    guard let secondHost = mmu.host(second & ~4095, count: 4096) else { throw .unsupported("code in device memory") }
    watchStores(to: second, secondHost)
    let more = UnsafeRawBufferPointer(start: secondHost, count: min(Self.bytesBehindPage, room - rest.count))
    let bytes = Array(rest) + Array(more)
    let made = bytes.withUnsafeBytes { store.make($0, key: straddling, mode: mode) }
    guard let made else { throw .exception(.general) }
    return counted(made)
  }

  private func counted(_ made: Block) -> Block {
    counters.count(.blockTranslated)
    counters.count(.byteTranslated, UInt64(made.length))
    return entered(made)
  }

  /// The linear address of the next instruction.
  var linearRIP: UInt64 { mode.bits == .bits64 ? rip : (system.cs.base &+ rip) & 0xffff_ffff }

  private func entered(_ next: Block) -> Block {
    if let trace = partition.trace, trace.subject == .blocks {
      trace.note("\(hexadecimal(linearRIP)) CPL \(cpl), \(mode.bits)")
    }
    return next
  }

  /// From now on stores to the page are seen, before its bytes are read.
  private func watchStores(to physical: UInt64, _ host: UnsafeMutableRawPointer) {
    guard store.markAsCode(physical >> 12) else { return }
    if store.codePages.takeWritable(physical >> 12) { translations.data.removeWritable(host) }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
  }

  /// Physical address of code.
  private func fetch(_ linear: UInt64) throws(Interruption) -> UInt64 {
    if let found = translations.code.find(linear, isUser: cpl == 3) {
      fetchedIsGlobal = found.isGlobal
      return found.physical
    }
    let physical: UInt64
    do throws(GuestException) {
      physical = try mmu.translate(linear, .execute, isUser: cpl == 3, overridesSMAP: false)
    } catch {
      throw .exception(error)
    }
    fetchedIsGlobal = mmu.isGlobal
    translations.code.insert(
      linear, physical: physical, isUser: cpl == 3, isGlobal: fetchedIsGlobal, shift: mmu.pageShift)
    return physical
  }
}
