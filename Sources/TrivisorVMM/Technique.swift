// How a technique meets the machine.
//
// A machine is memory, a bus with devices, and processors. What differs between the three techniques is only *how a
// processor runs guest code*, so that is all this file asks of them:
//
//     Technique ──makes──▶ Partition ──makes──▶ Processor ──run()──▶ StopReason
//                             │                     │
//                          maps GuestMemory      calls Bus for every port and memory access of the guest to a device
//
// The technique owns the loop. KVM's loop turns exits into bus calls; the rewriter's translated code calls the bus from
// the middle of a block; the paravirtual one calls it from a hypercall. None of them tells the machine about it: the
// machine hears from a processor once, when it stops for a reason that is the machine's business.

/// The three ways to run a guest, as the literature names them.
public enum TechniqueName: String, Sendable, CaseIterable {
  /// The processor's own virtualization extension, through KVM.
  case hardware
  /// Guest code is translated and run in user space.
  case rewriting
  /// The guest was built for hypercalls and runs deprivileged.
  case paravirtual
}

/// What a technique found out about this host.
public enum Availability: Sendable, Equatable {
  /// Usable. Each note is one sentence that a user should know.
  case available(notes: [String])
  /// `reason` is one sentence for the user; `remedy` says what would change it.
  case unavailable(reason: String, remedy: Sentence)
}

/// A way to run guests on this host.
public protocol Technique: Sendable {
  /// Which of the three.
  var name: TechniqueName { get }

  /// Which guests it runs: those that begin on a machine's processor, or Xen's domains.
  var handoverKind: Handover.Kind { get }

  /// Whether this host allows it, as far as that can be read from it: cheap, without side effects.
  func probe() -> Availability

  /// The same, tried: what a machine needs of the host is made, and let go again. For whoever wants to know before there is
  /// a machine; it takes milliseconds.
  func rehearse() -> Availability

  /// How well guest *kernel* code would run, where this host may disappoint; measured, so it takes milliseconds.
  /// `nil` when there is nothing to say.
  func caution() -> String?

  /// Every request that this technique cannot honour; when empty, `makePartition` will not refuse for the
  /// configuration's sake. Nothing is dropped silently: what is not listed here is given.
  func findings(for configuration: MachineConfiguration) -> [Finding]

  /// Features of a processor model that was not asked for by name which this technique leaves out on this host.
  func reductions(for configuration: MachineConfiguration) -> [ProcessorFeature]

  /// The type of its partitions' saved state, for whoever decodes one; `nil` where they can't be saved.
  var savedPartition: (any SavedState.Type)? { get }

  /// Whether guest memory must have a file behind it, to be mapped again or shared with another process.
  var sharesMemory: Bool { get }

  /// A machine's share of this host, with its memory mapped and no processor yet.
  /// - Throws: `TechniqueFailure` naming the host call that failed, its errno and what to do about it.
  func makePartition(
    _ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus
  ) throws(TechniqueFailure) -> any Partition
}

extension Technique {
  /// Nothing to try beyond `probe()`.
  public func rehearse() -> Availability { probe() }

  /// A machine.
  public var handoverKind: Handover.Kind { .processor }

  /// They can't.
  public var savedPartition: (any SavedState.Type)? { nil }

  /// With a file, any technique works.
  public var sharesMemory: Bool { true }
}

/// One guest's share of the host: its memory map and its processors.
public protocol Partition: AnyObject, Sendable {
  /// Makes processor `index` in its state after RESET: 0 is the bootstrap processor, the others wait to be started.
  ///
  /// Must be called on the thread that will run it. Its local APIC's ID is its index.
  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor

  /// Delivers interrupts to the processors.
  var interrupts: any InterruptController { get }

  /// Of a guest that has a console without a device: where its output is to go. Before a processor begins.
  /// - Returns: where what is typed is to go; `nil` where consoles are the machine's devices.
  func connectConsole(_ sink: any SerialSink) -> (any ConsoleInput)?

  /// Of a guest that has a line for a command without a device: where what comes over it is to go. Before a processor begins.
  /// - Returns: where what goes to the guest is to go; `nil` where such a line is one of the machine's devices.
  func connectCommandLine(_ sink: any SerialSink) -> (any ConsoleInput)?

  /// Of a guest whose disks are no devices: what is on them, in their order. Before a processor begins.
  func connectDisks(_ disks: [any BlockStorage])
  /// The same of its network interfaces.
  func connectNetworks(_ networks: [NetworkInterface])

  /// Doorbells and interrupts through eventfds, where the host has them.
  var eventBinding: (any EventBinding)? { get }

  /// The partition itself, if it can be saved and restored between two instructions.
  var restorable: (any RestorablePartition)? { get }

  /// Whether somebody who debugs the guest may write to its memory there, while its processors stand: not where the technique
  /// has checked what is there and relies on it.
  func mayBeWritten(_ address: GuestPhysicalAddress, count: UInt64) -> Bool
}

extension Partition {
  /// Everywhere.
  public func mayBeWritten(_ address: GuestPhysicalAddress, count: UInt64) -> Bool { true }
}

extension Partition {
  /// It can't.
  public var restorable: (any RestorablePartition)? { nil }
}

extension Partition {
  /// Consoles are devices.
  public func connectConsole(_ sink: any SerialSink) -> (any ConsoleInput)? { nil }

  /// It is a device.
  public func connectCommandLine(_ sink: any SerialSink) -> (any ConsoleInput)? { nil }

  /// Disks are devices.
  public func connectDisks(_ disks: [any BlockStorage]) {}
  /// They are devices.
  public func connectNetworks(_ networks: [NetworkInterface]) {}
}

/// One virtual CPU. Used on one thread, except for `requestStop()`.
public protocol Processor: AnyObject {
  /// Of processor 0, before it runs: takes over what the boot loader has left.
  /// - Throws: `TechniqueFailure` when it is no guest for this technique, or the host refuses its state.
  func begin(_ handover: Handover) throws(TechniqueFailure)

  /// Runs guest code on the calling thread until there is a reason to stop.
  /// - Throws: `TechniqueFailure` when the host refuses; the guest cannot cause it.
  func run() throws(TechniqueFailure) -> StopReason

  /// The handle by which other threads stop it; may outlive the processor.
  var stopHandle: any StopHandle { get }

  /// The state between two instructions.
  /// - Throws: `TechniqueFailure` when the host refuses to tell.
  func readState() throws(TechniqueFailure) -> MachineState

  /// Replaces the state.
  /// - Throws: `TechniqueFailure` naming what the host refused of it.
  func writeState(_ state: MachineState) throws(TechniqueFailure)

  /// HLT with interrupts off and nothing pending that could wake it, or never started. Only between two runs.
  var isHaltedForGood: Bool { get }

  /// Whether it executes the guest's kernel, with or without interrupts, and does not wait for anything. Only between two
  /// runs.
  var isBusyInKernel: Bool { get }

  /// What happened so far, by cause. Only between two runs.
  var counters: Counters { get }

  /// What only this technique counts, by name: `hypercall: mmu_update`. Only between two runs.
  var details: [String: UInt64] { get }

  /// What a debugger from outside wants from the next run on; it replaces what it wanted before. Only between two runs.
  /// - Throws: `TechniqueFailure` naming what of it can't be had; nothing of it is then in force.
  func follow(_ orders: DebuggerOrders) throws(TechniqueFailure)

  /// The way of a linear address through the guest's page tables, without any effect on them. Only between two runs.
  /// - Throws: `TechniqueFailure` when the host refuses to tell.
  func walk(_ linear: UInt64) throws(TechniqueFailure) -> PageWalk

  /// What CPUID answers; `nil` where the technique can't say.
  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf?
}

extension Processor {
  /// A machine's processor takes over registers.
  public func begin(_ handover: Handover) throws(TechniqueFailure) {
    guard case .processor(let start) = handover else {
      throw TechniqueFailure(call: "handing a guest over", reason: "it is a domain, and this is a machine")
    }
    var state = try readState()
    start.apply(to: &state)
    try writeState(state)
  }

  /// By the privilege level, which is CS's and SS's (AMD64 APM vol. 2, 4.9.1).
  public var isBusyInKernel: Bool {
    guard let state = try? readState() else { return false }
    return state.activity == .running && state.system.cs.selector & 3 != 3
  }

  /// Takes over what firmware has set on a processor that the guest has yet to start.
  func wait(behind handover: Handover) throws(TechniqueFailure) {
    guard handover.kind == .processor else { return }
    var state = try readState()
    state.adoptFirmware()
    try writeState(state)
  }

  /// Nothing beyond the common counters.
  public var details: [String: UInt64] { [:] }

  /// There is no way to follow a debugger.
  public func follow(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    guard orders == .none else {
      throw TechniqueFailure(call: "debugging", reason: "this technique follows no debugger")
    }
  }

  /// No address leads anywhere.
  public func walk(_ linear: UInt64) throws(TechniqueFailure) -> PageWalk { PageWalk(linear: linear) }

  /// It can't say.
  public func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? { nil }
}

/// Stops one processor from any thread.
public protocol StopHandle: Sendable {
  /// Makes the processor's `run` return `.stopRequested` within a millisecond or so, whatever the guest does; a request
  /// that comes between two runs ends the next one at once. Asking again does no harm.
  func requestStop()
}
