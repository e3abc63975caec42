import TrivisorDebugger

/// What can end a run from outside, or look into it.
public struct RunOptions: Sendable {
  /// Nanoseconds of wall time for all lives of the machine together, if limited.
  public var timeLimit: UInt64?
  /// Signals of the process that end the run. They must be blocked in the calling thread before any other is made.
  public var endingSignals: [Int32] = []
  /// Called after SIGCONT, when a shell had the terminal meanwhile; the signal must be blocked likewise.
  public var whenContinued: (@Sendable () -> Void)?
  /// Called after SIGWINCH, when the terminal has another size; the signal must be blocked likewise.
  public var whenResized: (@Sendable () -> Void)?
  /// Called once, when the machine is made and before its first instruction: all that a run opens is open.
  public var whenAssembled: (@Sendable () -> Void)?
  /// Called when the user asks for help at the terminal.
  public var whenHelpWanted: (@Sendable () -> Void)?

  /// Who lets a debugger at the machine.
  public var debugger: DebuggerServer?

  /// Nothing ends the run but the guest and `VirtualMachine.stop()`.
  public init() {}
}
