// What a debugger from outside and a technique say to each other.
//
// The guest has a debugger's means of its own: the trap flag, the breakpoint registers, INT3. A debugger from outside stands
// beside the processor and uses none of them in a way that the guest could see: it gives orders before a run, and the run
// comes back with a stop (`StopReason.debugger`) between two instructions.

/// What a debugger from outside wants of one processor, beside what the guest has set for itself.
public struct DebuggerOrders: Sendable, Equatable {
  /// Linear addresses of instructions before which it is to stop. The first instruction of a run is none of them, so that a
  /// run can begin where the last one stopped.
  public var breakpoints: Set<UInt64>
  /// The same, where guest memory must stay as it is under every technique.
  public var hardwareBreakpoints: Set<UInt64>
  /// Data that it is to stop behind the use of.
  public var watchpoints: [Watchpoint]
  /// It is to stop behind the next instruction, or, where that faults, before the first one of the handler.
  public var steps: Bool

  /// - Parameter steps: it is to stop behind the next instruction.
  public init(
    breakpoints: Set<UInt64> = [], hardwareBreakpoints: Set<UInt64> = [], watchpoints: [Watchpoint] = [],
    steps: Bool = false
  ) {
    self.breakpoints = breakpoints
    self.hardwareBreakpoints = hardwareBreakpoints
    self.watchpoints = watchpoints
    self.steps = steps
  }

  /// Nobody looks.
  public static let none = DebuggerOrders()

  /// Both kinds of breakpoints.
  public var allBreakpoints: Set<UInt64> { breakpoints.union(hardwareBreakpoints) }
}

/// Bytes of data at linear addresses, of which a debugger wants to know who uses them.
public struct Watchpoint: Sendable, Hashable {
  /// Which use.
  public enum Use: Sendable, Hashable {
    /// Stores; loads; both.
    case write, read, access
  }

  /// The first byte's linear address.
  public var address: UInt64
  /// How many bytes, at least one.
  public var length: UInt64
  /// Which use.
  public var use: Use

  /// - Parameter length: bytes, at least one.
  public init(address: UInt64, length: UInt64, use: Use) {
    self.address = address
    self.length = length
    self.use = use
  }

  /// Whether an access touches one of the bytes in a way that counts.
  public func isHit(by first: UInt64, count: UInt64, isWrite: Bool) -> Bool {
    guard use == .access || (use == .write) == isWrite else { return false }
    return first &- address < length || address &- first < count
  }
}

/// Why a processor stopped for a debugger from outside.
public enum DebuggerStop: Sendable, Equatable {
  /// The next instruction is at a breakpoint.
  case breakpoint(isHardware: Bool)
  /// The instruction before has used these bytes; the use as it was asked for.
  case watchpoint(Watchpoint)
  /// The instruction before was the one to be stepped.
  case step
}
