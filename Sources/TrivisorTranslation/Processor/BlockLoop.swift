// The loop around translated code of one processor.
//
//     find the block at RIP ─▶ cws_enter ─▶ (guest code, block after block) ─▶ a site ─▶ answer it ─▶ …
//
// All of the guest's state is in the state block and in the processor whenever Swift runs, between instructions or at the
// memory access of one, so an exception can be delivered from any site.

import Synchronization
import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Runs blocks, one after another, until there is something that they can't go on with.
struct BlockLoop {
  let processor: TranslatedProcessor
  private let block: StateBlock
  private let control: ControlState
  private let store: TranslationCache
  private let translations: AddressTranslations
  let turn: ProcessorTurn
  /// This processor has stopped the world for the instruction in work.
  private var standsAlone = false
  /// Of the page that `fetch` found.
  private var fetchedIsGlobal = false
  /// How much of the second page a block may have that begins with an instruction that straddles.
  private static let bytesBehindPage = 256

  init(_ processor: TranslatedProcessor) {
    self.processor = processor
    block = processor.block
    control = processor.control
    store = processor.store
    translations = processor.translations
    turn = processor.turn
  }

  /// Runs until something interrupts it.
  mutating func run() -> Interruption {
    do throws(Interruption) {
      try runBlocks()
    } catch {
      goOnTogether()
      _ = processor.linear.takeStoresLater()
      return error
    }
  }

  private mutating func runBlocks() throws(Interruption) -> Never {
    var target = try findBlock().entry
    while true {
      block.state.pointee.target = target
      block.system.pointee.event_pending = processor.surroundings.waiting.rawValue == 0 ? 0 : 1
      block.system.pointee.return_is_special =
        processor.pendingEvents.nonMaskableBlocked || control.hasInnerDataSegments ? 1 : 0
      let began = cws_timestamp()
      let storesLater = processor.linear.takeStoresLater()
      if standsAlone || storesLater {
        cws_enter(block.state)
        processor.ledger.guest &+= cws_timestamp() &- began
      } else {
        turn.release()
        turn.runsCode()
        cws_enter(block.state)
        turn.ranCode()
        let ended = cws_timestamp()
        processor.ledger.guest &+= ended &- began
        turn.resume()
        if turn.isShared { processor.ledger.awaitingTurn &+= cws_timestamp() &- ended }
      }
      control.adopt()
      processor.counters.count(.exit)
      if block.state.pointee.x87_instruction_note | block.state.pointee.x87_operand_note != 0 {
        X87PointerSettlement(of: processor).settle()
      }
      if block.state.pointee.signal_vector != CWS_NO_SIGNAL { throw takeSignal() }
      if block.state.pointee.site == CWS_SITE_COMPLETE {
        processor.counters.count(.exitJump)
        processor.rip = block.state.pointee.rip
        processor.shadow = .none
        let next = try findBlock()
        if processor.trace == nil {
          translations.replace(
            by: next, at: processor.rip, stack: processor.general(.rsp), is64: processor.mode.bits == .bits64,
            isGlobal: fetchedIsGlobal)
        }
        target = next.entry
        continue
      }
      let number = Int(block.state.pointee.site)
      let site = store.translator.site(number)
      // Where code for any linear address counts from.
      let page = block.state.pointee.page
      if let recipe = site.recipe { processor.arithmeticFlags = recipe.flags(block.general) }
      let isStepping = processor.mode.isSingleStepping
      processor.isTrapping = control.flags.contains(.trap)
      if standsAlone, !site.isWithinInstruction { goOnTogether() }
      switch site.kind {
      case .miss(let access):
        processor.counters.count(.exitMemory)
        processor.rip = page &+ site.rip
        if isWholeOnlyAlone(access) {
          if isStepping, processor.isResuming { control.flags.insert(.resume) }
          turn.stopWorld()
          standsAlone = true
          // Whoever stopped the world before has told this processor to stop, too: two that take turns would get nowhere.
          target = try findBlock(as: isStepping ? .usual : .bouncing).entryBehindPoll
        } else if let place = try processor.linear.resolve(access) {
          target = place
        } else if control.isWatched {
          if isStepping, processor.isResuming { control.flags.insert(.resume) }
          target = try findBlock().host
        } else {
          target = try findBlock(as: access.isShared ? .separate : .bouncing).entry
        }
        // A device that was read may have interrupted; this thread does not kick itself.
        if processor.hasEvent { processor.stop.kickFromOutside() }
        continue
      case .segment(let check):
        processor.rip = page &+ site.rip
        let offset = block.state.pointee.address
        if check.mustBeAligned, (offset &+ processor.segment(check.register).base) % UInt64(check.size) != 0 {
          throw .exception(.general)
        }
        try processor.checkSegment(check.register, offset, size: Int(check.size), isWrite: check.isWrite)
        block.state.pointee.t1 = offset
        target = store.translator.cache.base &+ UInt64(check.resume)
        continue
      case .stored(let access):
        processor.rip = page &+ site.rip
        processor.shadow = .none
        let isIntact = try processor.linear.storePending(access, site.block)
        goOnTogether()
        if access.isCall || (isIntact && !processor.mustReturn) {
          // This thread does not kick itself, and a call has not ended before it has jumped.
          if processor.hasEvent { processor.stop.kickFromOutside() }
          target = store.translator.cache.base &+ UInt64(access.next)
          continue
        }
      case .chain(let place, _, let inRAX):
        processor.shadow = .none
        target = try follow(to: page &+ site.rip) { linker, next, _ in
          linker.link(number, place, inRAX: inRAX, from: site.block, to: next)
        }
        continue
      case .separate(let place, _):
        target = try follow(to: page &+ site.rip, as: .separate) { linker, next, _ in
          linker.link(number, place, inRAX: false, from: site.block, to: next)
        }
        continue
      case .across(let place, let unlinked, let inRAX):
        processor.shadow = .none
        target = try follow(to: page &+ site.rip) { linker, next, isGlobal in
          linker.linkAcross(
            number, place, unlinked: unlinked, inRAX: inRAX, from: site.block, to: next, isGlobal: isGlobal)
        }
        continue
      case .cross(let word, let jump, let branch, let released):
        processor.counters.count(.exitJump)
        processor.rip = page &+ site.rip
        processor.shadow = .none
        if branch >= 0, !LinearAddress.isCanonical(processor.rip) {
          processor.rip = page &+ UInt64(branch)
          takeBack(released)
          throw .exception(.general)
        }
        let generation = store.generation
        var next = try findBlock()
        let mustStand = generation == store.generation && store.linker.mustStandForCross(number, to: next)
        if mustStand {
          turn.stopWorld()
          standsAlone = true
          next = try findBlock()
        }
        if generation == store.generation, processor.trace == nil {
          store.linker.linkCross(number, word: word, jump: jump, from: site.block, to: next)
        }
        goOnTogether()
        target = next.entry
        continue
      case .returnPoint(let place, _):
        processor.shadow = .none
        target = try follow(to: page &+ site.rip) { linker, next, _ in
          linker.linkReturn(number, place, from: site.block, to: next)
        }
        continue
      case .refetch:
        processor.counters.count(.exitJump)
        processor.rip = page &+ site.rip
        let next = try findBlock()
        if processor.trace == nil { translations.remember(next, at: processor.rip, isGlobal: fetchedIsGlobal) }
        target = next.entry
        continue
      case .indirect(let released, let isBranch):
        processor.counters.count(.exitJump)
        if isStepping, isBranch { processor.noteBranch(from: page &+ site.rip, to: block.state.pointee.rip) }
        processor.rip = block.state.pointee.rip
        processor.shadow = .none
        if processor.mode.bits == .bits64
          ? !LinearAddress.isCanonical(processor.rip) : processor.rip > UInt64(processor.system.cs.limit)
        {
          // The fault is the branch's, and RSP is as it was before it.
          processor.rip = page &+ site.rip
          takeBack(released)
          throw .exception(.general)
        }
        if !isStepping {
          let next = try findBlock()
          if processor.trace == nil { translations.remember(next, at: processor.rip, isGlobal: fetchedIsGlobal) }
          target = next.entry
          continue
        }
      case .spun:
        processor.counters.count(.exitOther)
        processor.rip = page &+ site.rip
        processor.shadow = .none
        block.pausesLeft = SpinBrake.count
        guard restFromSpinning() else { throw .stop(.stopRequested) }
      case .shadow:
        processor.rip = page &+ site.rip
        processor.shadow = .interrupts
      case .callOut(let place):
        let instruction = store.translator.instruction(Int(place))
        processor.rip = page &+ site.rip
        let held = processor.shadow
        processor.shadow = .none
        do throws(Interruption) {
          try processor.emulate(instruction)
        } catch {
          // What has not completed ends no shadow: a repeated instruction that makes way for an event, for instance.
          guard case .stop(.stopRequested) = error else { throw error }
          if processor.rip == page &+ site.rip {
            processor.shadow = held
          } else if isStepping {
            try processor.follower.endStep(in: control)
          }
          throw error
        }
        if isStepping || processor.branchRecord.isOn, instruction.transfersByCallOut {
          processor.noteBranch(from: page &+ site.rip, to: processor.rip)
        }
      case .breakpoint:
        processor.rip = page &+ site.rip
        try processor.follower.meetBreakpoint(at: processor.linearRIP, in: control)
        target = try findBlock().host
        continue
      case .raise(let fault):
        processor.rip = page &+ site.rip
        throw .exception(fault.exception)
      case .unsupported(let reason):
        processor.rip = page &+ site.rip
        throw .unsupported(store.translator.reasons[Int(reason)])
      }
      if isStepping || processor.follower.hit != nil { processor.follower.noteStep(in: control) }
      if isStepping || processor.isTrapping { try processor.finishStep() }
      if let reason = processor.follower.takePending() { throw .stop(.debugger(reason)) }
      if processor.mustReturn || processor.stepsOnce { throw .stop(.stopRequested) }
      if control.runsDeviceCode { control.runsDeviceCode = false }
      target = try findBlock().entry
    }
  }

  /// Whether the access has LOCK, and goes by the bounce buffer though others may reach what is there: on two pages, or where
  /// somebody looks at each access. To a page of code they come in turn.
  private func isWholeOnlyAlone(_ access: AccessSite) -> Bool {
    guard turn.isShared, access.isLocked, !standsAlone else { return false }
    let address = block.state.pointee.address
    return address & 4095 + UInt64(access.size) > 4096 || control.mode.checksAccesses
      || processor.follower.watches(page: address)
  }

  /// Goes on at a RIP to which a site leads always.
  /// - Parameter link: lets translated code go there by itself, and is told whether the pages' translations are global; not called where the site is gone by now, or
  ///   every block is to be told.
  @inline(__always)
  private mutating func follow(
    to rip: UInt64, as variant: BlockKey.Variant = .usual, link: (Linker, Block, Bool) -> Void
  ) throws(Interruption) -> UInt64 {
    processor.counters.count(.exitJump)
    processor.rip = rip
    let generation = store.generation
    let next = try findBlock(as: variant)
    if generation == store.generation, processor.trace == nil {
      link(store.linker, next, fetchedIsGlobal)
    }
    return next.entry
  }

  private mutating func goOnTogether() {
    guard standsAlone else { return }
    standsAlone = false
    turn.startWorld()
  }

  /// RSP is as it was before a branch that faults.
  private func takeBack(_ released: Int32) {
    let stack = processor.general(.rsp) &- UInt64(bitPattern: Int64(released))
    processor.setGeneral(.rsp, stack, size: processor.stackSize)
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
    processor.rip = page &+ fault.rip
    if fault.hasOwnRegisters {
      // The exit took host RAX for flags, and R11 for RAX.
      processor.setGeneral(.r11, processor.general(.rax))
      processor.setGeneral(.rax, state.pointee.flags)
    }
    if let spare = fault.spare { block.general[Int(spare)] = state.pointee.scratch.1 }
    if let recipe = fault.recipe {
      processor.arithmeticFlags = recipe.flags(block.general)
    } else if !fault.flagsAreInRAX {
      processor.arithmeticFlags = RFLAGS(rawValue: state.pointee.signal_flags)
    }
    if fault.x87Notes.instruction != 0 { X87PointerSettlement(of: processor).settle(fault.x87Notes) }
    let poll = block.pollAddress
    if vector == 14, (poll..<poll + 4096).contains(state.pointee.signal_address) {
      processor.rip = page &+ owner.key.rip
      // The instruction has not begun.
      if processor.mode.isSingleStepping, processor.isResuming { control.flags.insert(.resume) }
      return .stop(.stopRequested)
    }
    switch vector {
    case 0: return .exception(.divide)
    case 6: return .exception(.invalidOpcode)
    case 13: return .exception(.general)
    case 16:
      return .exception(.x87)
    case 19:
      return .exception(control.cr4.contains(.osXMMExceptions) ? .simd : .invalidOpcode)
    default:
      return .unsupported("a fault of the host (vector \(vector)) in a guest instruction")
    }
  }

  // MARK: Blocks

  /// The block at RIP, translated if need be. A safe point: nothing that was known of other blocks need be true any more.
  private mutating func findBlock(as variant: BlockKey.Variant = .usual) throws(Interruption) -> Block {
    turn.safePoint()
    try control.establish()
    if processor.mode.isSingleStepping {
      if variant == .usual { try processor.follower.stopBeforeStep(at: processor.linearRIP) }
      try processor.beginStep()
    } else {
      control.flags.remove(.resume)
    }
    if processor.mode.bits == .bits64, !LinearAddress.isCanonical(processor.rip) { throw .exception(.general) }
    while true {
      if let found = try lookUp(variant) { return found }
      try control.establish()
    }
  }

  /// - Returns: `nil` if the world has stood meanwhile, so that everything must be looked at anew.
  private mutating func lookUp(_ variant: BlockKey.Variant) throws(Interruption) -> Block? {
    let (modeNumber, codeSegment) = (control.modeNumber, control.codeSegment)
    // How many bytes CS has from here on.
    var room = Int.max
    var linear = processor.rip
    if codeSegment != BlockKey.flat {
      guard processor.rip <= codeSegment >> 32 else { throw .exception(.general) }
      room = Int(codeSegment >> 32 - processor.rip) + 1
      linear = (processor.rip &+ codeSegment) & 0xffff_ffff
    }
    let physical = try fetch(linear)
    let isRelative = processor.mode.isRelative
    block.state.pointee.page = isRelative ? linear & ~4095 : 0
    let place = isRelative ? linear & 4095 : processor.rip
    let number = modeNumber | variant.rawValue
    let key = BlockKey(
      page: physical >> 12, secondPage: .max, rip: place, mode: number, codeSegment: codeSegment)
    // Where the processor's APIC is now there may have been code before.
    if physical & ~4095 != processor.mmu.localPage, let found = store.find(key) { return entered(found) }
    let mustEmpty = turn.emptiesCache
    if mustEmpty || store.isFull {
      guard !stopsWorld({ if mustEmpty || store.isFull { store.removeAll() } }) else { return nil }
    }
    let began = cws_timestamp()
    defer { processor.ledger.translator &+= cws_timestamp() &- began }
    let offset = Int(linear & 4095)
    guard let host = processor.mmu.host(physical & ~4095, count: 4096) else {
      return try makeDeviceBlock(key, linear, physical, room: room)
    }
    let rest = UnsafeRawBufferPointer(start: host + offset, count: min(4096 - offset, room))
    guard !watchStores(to: physical, host) else { return nil }
    let isCut = rest.count < 15 && store.translator.needsMore(rest, mode: processor.mode)
    if !isCut, let made = store.make(rest, key: key, mode: processor.mode) { return counted(made) }
    // The first instruction goes on in the next page, or beyond CS.
    if room == rest.count { throw .exception(.general) }
    let nextPage = ((linear | 4095) &+ 1) & (processor.mode.bits == .bits64 ? .max : 0xffff_ffff)
    if processor.mode.bits == .bits64, !LinearAddress.isCanonical(nextPage) { throw .exception(.general) }
    let firstIsGlobal = fetchedIsGlobal
    let second = try fetch(nextPage)
    if isRelative, !PageCode.exists(for: second >> 12) { throw .unsupported("code beyond 512 GiB of memory") }
    fetchedIsGlobal = fetchedIsGlobal && firstIsGlobal
    let straddling = BlockKey(
      page: physical >> 12, secondPage: second >> 12, rip: place, mode: number,
      codeSegment: codeSegment)
    if let found = store.find(straddling) { return entered(found) }
    guard let secondHost = processor.mmu.host(second & ~4095, count: 4096) else {
      return try makeDeviceBlock(key, linear, physical, room: room)
    }
    guard !watchStores(to: second, secondHost) else { return nil }
    let more = UnsafeRawBufferPointer(start: secondHost, count: min(Self.bytesBehindPage, room - rest.count))
    let bytes = Array(rest) + Array(more)
    let made = bytes.withUnsafeBytes { store.make($0, key: straddling, mode: processor.mode) }
    guard let made else { throw .exception(.general) }
    return counted(made)
  }

  /// Code in device memory, or that goes on there, may be other code the next time. So each instruction is read anew, and run by itself: nothing
  /// is linked to it, and what follows it is looked up in Swift.
  private mutating func makeDeviceBlock(
    _ key: BlockKey, _ linear: UInt64, _ physical: UInt64, room: Int
  ) throws(Interruption) -> Block {
    guard control.runsDeviceCode else {
      control.runsDeviceCode = true
      // The instruction has not begun.
      if processor.mode.isSingleStepping, processor.isResuming { control.flags.insert(.resume) }
      throw .stop(.stopRequested)
    }
    var bytes = [UInt8](repeating: 0, count: min(Decoder.maximumLength, room))
    let inPage = min(bytes.count, 4096 - Int(linear & 4095))
    let firstIsGlobal = fetchedIsGlobal
    var count = inPage
    read(physical, into: &bytes, at: 0, count: inPage)
    let isCut = bytes.withUnsafeBytes {
      store.translator.needsMore(UnsafeRawBufferPointer(rebasing: $0[..<inPage]), mode: processor.mode)
    }
    if isCut, inPage < bytes.count {
      let next = ((linear | 4095) &+ 1) & (processor.mode.bits == .bits64 ? .max : 0xffff_ffff)
      if processor.mode.bits == .bits64, !LinearAddress.isCanonical(next) { throw .exception(.general) }
      let second = try fetch(next)
      read(second, into: &bytes, at: inPage, count: bytes.count - inPage)
      count = bytes.count
    }
    fetchedIsGlobal = fetchedIsGlobal && firstIsGlobal
    let made = bytes.withUnsafeBytes {
      store.make(
        UnsafeRawBufferPointer(rebasing: $0[..<count]), key: key.madeOnce(processor.deviceBlocks), mode: processor.mode)
    }
    processor.deviceBlocks &+= 1
    guard let made else { throw .exception(.general) }
    return counted(made)
  }

  private func read(_ physical: UInt64, into bytes: inout [UInt8], at offset: Int, count: Int) {
    bytes.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      processor.linear.readPhysical(physical, into: base + offset, count: count)
    }
  }

  private func counted(_ made: Block) -> Block {
    processor.counters.count(.blockTranslated)
    processor.counters.count(.byteTranslated, UInt64(made.length))
    return entered(made)
  }

  private func entered(_ next: Block) -> Block {
    if let trace = processor.trace, trace.subject == .blocks {
      trace.note("\(hexadecimal(processor.linearRIP)) CPL \(processor.cpl), \(processor.mode.bits)")
    }
    return next
  }

  /// From now on stores to the page are seen, before its bytes are read.
  /// - Returns: whether the world has stood for it.
  private func watchStores(to physical: UInt64, _ host: UnsafeMutableRawPointer) -> Bool {
    let page = physical >> 12
    if store.isCode(page) { return false }
    let hasOthers = store.codePages.writers(page) & ~(1 << UInt64(turn.index)) != 0
    // Marked while the world stands: where there is a mark, nobody stores unseen, or a LOCK of one who is seen and one of another who
    // is not would not be one step each.
    return hasOthers ? stopsWorld { mark(page, host) } : mark(page, host)
  }

  /// - Returns: that the world has not stood.
  @discardableResult
  private func mark(_ page: UInt64, _ host: UnsafeMutableRawPointer) -> Bool {
    if store.markAsCode(page) {
      store.forbidStores(to: host, by: store.codePages.takeWriters(page))
      atomicMemoryFence(ordering: .sequentiallyConsistent)
    }
    return false
  }

  /// Does something while no other processor runs.
  /// - Returns: whether there are others, which may have changed what was known.
  private func stopsWorld<Result>(_ body: () -> Result) -> Bool {
    turn.stopWorld()
    _ = body()
    turn.startWorld()
    return turn.isShared
  }

  /// Whether code is found by the translations of user code.
  private var isUser: Bool { processor.cpl == 3 && !control.isDomainKernel }

  /// Physical address of code.
  private mutating func fetch(_ linear: UInt64) throws(Interruption) -> UInt64 {
    if let found = translations.code.find(linear, isUser: isUser) {
      fetchedIsGlobal = found.isGlobal
      return found.physical
    }
    let physical: UInt64
    do throws(GuestException) {
      physical = try processor.mmu.translate(linear, .execute, isUser: processor.cpl == 3, overridesSMAP: false)
    } catch {
      throw .exception(error)
    }
    fetchedIsGlobal = processor.mmu.isGlobal
    translations.code.insert(
      linear, physical: physical, isUser: isUser, isGlobal: fetchedIsGlobal, shift: processor.mmu.pageShift)
    return physical
  }
}
