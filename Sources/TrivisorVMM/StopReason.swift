/// Why a processor came back. Everything else was handled on the way.
public enum StopReason: Sendable, Equatable {
  /// HLT with interrupts off on every processor: nothing can wake the machine.
  case halted
  /// The guest gave an exit code through the guest interface.
  case exited(code: UInt8)
  /// The guest switched the machine off: ACPI S5, SCHEDOP_shutdown.
  case shutdown
  /// The guest asked for a reset: keyboard controller, port 0xcf9, ACPI reset register.
  case reset
  /// A fault during a double fault's delivery: also how some kernels reset on purpose.
  case tripleFault
  /// The technique could not go on with this guest; the report says where.
  indirect case crashed(CrashReport)
  /// `requestStop()` was called.
  case stopRequested
  /// What a debugger from outside has waited for (`Processor.follow`).
  case debugger(DebuggerStop)
}

/// What is known of a guest that a technique could not go on with.
public struct CrashReport: Sendable, Equatable {
  /// One sentence: what happened.
  public var summary: String
  /// The processor at that point, where the technique could still read it.
  public var state: MachineState?
  /// The bytes at RIP, as many as could be read, at most 15.
  public var instruction: [UInt8]

  /// - Parameter instruction: the bytes at RIP, empty if they could not be read.
  public init(summary: String, state: MachineState? = nil, instruction: [UInt8] = []) {
    self.summary = summary
    self.state = state
    self.instruction = instruction
  }
}
