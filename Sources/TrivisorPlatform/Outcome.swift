import TrivisorCommandChannel
import TrivisorDevices
import TrivisorVMM

/// How a machine's run ended.
public enum Outcome: Sendable, Equatable {
  /// The guest gave an exit code through the guest interface.
  case exited(code: UInt8)
  /// The command that the guest was to run has ended.
  case commandEnded(CommandStatus)
  /// The guest ended, or the channel to its first process broke, without the status of the command that it was to run; a
  /// sentence.
  case commandLost(String)
  /// The guest switched the machine off.
  case poweredOff
  /// The guest reset the machine without an exit code, and the reset policy does not restart.
  case reset
  /// The guest's kernel gave up: it said so by the pvpanic port, or on its console before it reset or stopped.
  case panicked(KernelPanic)
  /// The guest died of a triple fault.
  case tripleFault
  /// Every processor halted with interrupts off.
  case halted
  /// The technique could not go on with the guest.
  case crashed(CrashReport)
  /// Ended from outside.
  case stopped(StopCause)
  /// The host refused something; not the guest's fault.
  case failed(TechniqueFailure)
}

/// Who ended a machine from outside.
public enum StopCause: Sendable, Equatable {
  /// `VirtualMachine.stop()`.
  case request
  /// The time limit.
  case timeout
  /// A signal to the process.
  case signal(Int32)
  /// The user at the terminal.
  case user
  /// Nobody reads what the guest writes any more: the pipe is closed.
  case outputClosed
}

/// What to make of a guest that resets its machine without having given an exit code.
public enum ResetPolicy: String, Sendable, CaseIterable {
  /// The run succeeded: for guests that end that way on purpose.
  case success
  /// The run failed: a panicking kernel resets, and a test must not pass by that.
  case failure
  /// The machine starts anew from its image, unless the kernel panicked.
  case restart
}
