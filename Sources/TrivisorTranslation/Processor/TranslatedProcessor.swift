// A processor's state while its code is translated: what it consists of, and whose thread it is on. `BlockLoop` runs the code.

import TrivisorCWorldSwitch
import Glibc
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// A processor whose code is translated, without the chips and buses around it.
///
/// Used on one thread, which `enterThread` makes its own.
package final class TranslatedProcessor {
  let surroundings: any ProcessorSurroundings
  let memory: PhysicalMemory
  private let guestMemory: GuestMemory
  /// What CPUID says.
  package let identification: CPUIDTable
  let trace: CodeTrace?
  let block: StateBlock
  let mmu: GuestMMU
  let store: TranslationCache
  let translations: AddressTranslations
  let control: ControlState
  let linear: LinearMemory
  let tally = ProcessorTally()
  /// How other threads reach it.
  package let stop: TranslationStopHandle
  let deviceStores: DeviceStores
  /// Its part in the rendezvous with the machine's other processors.
  package let turn: ProcessorTurn
  /// Of the clock in guest memory.
  var clockVersion: UInt32 = 0

  /// Offset in CS of the instruction in work, or of the next one.
  @exclusivity(unchecked) package var rip: UInt64 = 0xfff0
  /// Whether it runs code, or what it waits for.
  @exclusivity(unchecked) package var activity = Activity.running
  var timestampOffset: UInt64 = 0 {
    didSet {
      surroundings.timestampOffsetChanged(to: timestampOffset)
      block.system.pointee.timestamp_offset = timestampOffset
    }
  }
  /// What the instruction before holds back until the next one is complete.
  @exclusivity(unchecked) package var shadow = Shadow.none
  /// From `writeState`: to be delivered before the next instruction.
  @exclusivity(unchecked) package var pendingEvents = PendingEvents() {
    didSet {
      let isBlocked = pendingEvents.nonMaskableBlocked
      if isBlocked != oldValue.nonMaskableBlocked { surroundings.nonMaskableBlockingChanged(to: isBlocked) }
    }
  }
  /// The instruction in work ends with a single-step trap.
  @exclusivity(unchecked) var isTrapping = false
  /// SYSCALL has stopped the run.
  @exclusivity(unchecked) var hasSystemCall = false
  /// RFLAGS.RF was set when the instruction in work began.
  @exclusivity(unchecked) var isResuming = false
  /// What a debugger from outside wants.
  let follower = DebuggerFollower()
  /// What FNSTENV stores, but for what translated code has noted since it was entered.
  @exclusivity(unchecked) var x87Pointers = X87Pointers()

  @exclusivity(unchecked) var spinBrake = SpinBrake()
  /// What happened.
  package var counters: Counters {
    _read { yield tally.counters }
    _modify { yield &tally.counters }
  }
  /// Where time went.
  package var ledger: Ledger {
    _read { yield tally.ledger }
    _modify { yield &tally.ledger }
  }

  // What `ControlState` owns, by the names of the manuals.
  @inline(__always) var system: SystemRegisters { _read { yield control.system } }
  var debug: DebugRegisters {
    _read { yield control.debug }
    _modify { yield &control.debug }
  }
  var branchRecord: BranchRecord {
    _read { yield control.branchRecord }
    _modify { yield &control.branchRecord }
  }
  /// How many instructions in device memory were translated.
  @exclusivity(unchecked) var deviceBlocks: UInt64 = 0
  /// The next instruction is run by itself, because an event waits behind it.
  package var stepsOnce: Bool {
    get { control.stepsOnce }
    set { control.stepsOnce = newValue }
  }
  @inline(__always) var mode: CodeMode { _read { yield control.mode } }

  /// - Parameters:
  ///   - surroundings: what is around it.
  ///   - store: the blocks of its machine.
  ///   - guestMemory: where devices report their stores.
  ///   - memory: the same memory as page tables name it.
  ///   - identification: what CPUID says.
  ///   - turn: where the machine has several processors, its part in their rendezvous; it is its turn now.
  ///   - trace: where to write what its code does.
  /// - Throws: `TechniqueFailure` when the host refuses memory.
  package init(
    in surroundings: any ProcessorSurroundings, store: TranslationCache, guestMemory: GuestMemory,
    memory: PhysicalMemory, identification: CPUIDTable, turn: ProcessorTurn = ProcessorTurn(), trace: CodeTrace? = nil
  ) throws(TechniqueFailure) {
    self.turn = turn
    self.surroundings = surroundings
    self.memory = memory
    self.identification = identification
    self.trace = trace
    self.guestMemory = guestMemory
    let block = try StateBlock()
    self.block = block
    mmu = GuestMMU(memory: memory)
    mmu.hasGibibytePages = identification.has(.pdpe1gb)
    self.store = store
    translations = AddressTranslations(block, store)
    control = ControlState(block, mmu, translations, store, turn)
    linear = LinearMemory(
      block, mmu, store, translations, control, surroundings, tally, follower, turn)
    stop = TranslationStopHandle(block)
    deviceStores = store.deviceStores
    let cache = store.translator.cache
    block.state.pointee.cache_base = UInt64(UInt(bitPattern: cache.executable))
    block.state.pointee.cache_size = UInt64(CodeCache.capacity)
    block.general[2] = 0x600
    mmu.entryChanged = { [unowned store] place in store.invalidate(place, count: 8) }
    deviceStores.connect(stop)
    guestMemory.watch.set(deviceStores)
    store.setView(translations, of: turn.index)
    turn.join(stop)
    if surroundings.takesSystemCalls {
      mmu.takesStore = { [unowned surroundings] physical, linear in
        surroundings.takesStore(to: physical, linear: linear)
      }
    }
  }

  deinit {
    turn.enter()
    if deviceStores.disconnect(stop) { guestMemory.watch.set(nil) }
    store.setView(nil, of: turn.index)
    turn.join(nil)
    turn.leave()
    stop.invalidate()
  }

  // MARK: The loop

  /// Makes the calling thread the one that runs the processor, until `leaveThread`.
  /// - Throws: `TechniqueFailure` when the host refuses.
  package func enterThread() throws(TechniqueFailure) {
    let error = cws_prepare_thread(block.state)
    guard error == 0 else {
      throw TechniqueFailure(call: "sigaltstack or arch_prctl", reason: String(cString: strerror(error)))
    }
    stop.adoptThread()
  }

  /// The thread is as it was before.
  package func leaveThread() {
    cws_release_thread()
    trace?.flush()
  }

  /// Before code is run, or the processor waits for something: signals that wait for the thread are taken.
  /// - Returns: whether somebody wants it to stop, which is thereby answered.
  package func settle() -> Bool {
    if stop.isWanted {
      // Signals that wait for this thread, and have no other to go to.
      cws_admit_signals(1)
      cws_admit_signals(0)
    }
    return stop.settle()
  }

  /// Sleeps until somebody stops or kicks it, or until a time of the monotonic clock.
  package func sleep(until deadline: UInt64) -> TranslationStopHandle.Awakening {
    turn.sleeps { stop.isWanted }
    cws_admit_signals(1)
    defer { cws_admit_signals(0) }
    return stop.sleep(until: deadline)
  }

  /// Runs code until it is interrupted; what it is interrupted by has not been done.
  package func run() -> Interruption {
    // Behind whatever has given the poll page back: what a device stores from here on takes it away again.
    for page in deviceStores.take() { store.invalidate(page << 12, count: 4096) }
    cws_load_x87(block.state)
    defer { cws_save_x87(block.state) }
    var loop = BlockLoop(self)
    return loop.run()
  }

  /// The linear address of the next instruction.
  var linearRIP: UInt64 { mode.bits == .bits64 ? rip : (system.cs.base &+ rip) & 0xffff_ffff }
}
