import TrivisorVMM

/// A machine as a debugger sees it. Used on the debugger's thread; all but `wake` need that the processors stand.
public protocol DebuggedMachine: AnyObject, Sendable {
  /// Processors, which are the debugger's threads.
  var processorCount: Int { get }
  /// Whether the guest is for 32-bit processors, as far as its image says.
  var is32Bit: Bool { get }
  /// Which technique runs it, for the user.
  var technique: String { get }

  /// - Throws: `TechniqueFailure` when the host refuses to tell.
  func state(of processor: Int) throws(TechniqueFailure) -> MachineState
  /// - Throws: `TechniqueFailure` naming what can't be had.
  func setState(_ state: MachineState, of processor: Int) throws(TechniqueFailure)
  /// The way of a linear address through a processor's page tables.
  func walk(_ linear: UInt64, processor: Int) throws(TechniqueFailure) -> PageWalk
  /// What CPUID answers there.
  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf?
  /// What was counted so far, by name.
  func statistics() -> [(name: String, value: UInt64)]

  /// Bytes of RAM from a guest physical address on, as far as there is RAM.
  func read(at physical: UInt64, count: Int) -> [UInt8]
  /// - Returns: whether all of it is RAM that a debugger may change; if not, nothing has changed.
  func write(_ bytes: [UInt8], at physical: UInt64) -> Bool

  /// From now on the debugger is told when there is news.
  func attach(whenNews: @escaping @Sendable () -> Void)
  /// Nobody looks any more: the guest goes on.
  func detach()
  /// Holds the processors; returns when they stand.
  func hold()
  /// Whether these orders can be had.
  /// - Throws: `TechniqueFailure` naming what of them can't.
  func check(_ orders: DebuggerOrders) throws(TechniqueFailure)
  /// Lets processors run.
  /// - Parameter orders: for those that are to run.
  /// - Throws: `TechniqueFailure` naming what can't be had; then none runs.
  func release(_ orders: [Int: DebuggerOrders]) throws(TechniqueFailure)
  /// What has happened since the processors were released.
  func takeNews() -> ProcessorThreads.DebuggerNews?
  /// Ends the machine.
  func kill()
}
