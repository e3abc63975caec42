import TrivisorDevices

/// When a machine's first life came how far: nanoseconds of the host's CLOCK_MONOTONIC.
public struct Timeline: Sendable {
  /// There is guest memory.
  public var memory: UInt64 = 0
  /// The image is in it.
  public var image: UInt64 = 0
  /// Devices and processors are made, and the first instruction runs. Of a kernel that was unpacked on the host this is
  /// its own entry; one that is entered as packaged begins to unpack itself.
  public var firstInstruction: UInt64 = 0
  /// The guest's first byte on a console.
  public var firstOutput: UInt64?
  /// The first byte on a serial port that the guest's driver serves by interrupts: of a Linux guest, its init's.
  public var firstInterruptDrivenOutput: UInt64?
  /// What the guest wrote to the milestone port.
  public var milestones: [MilestonePort.Milestone] = []
}
