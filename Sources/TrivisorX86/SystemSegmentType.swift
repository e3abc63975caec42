/// The type of a system segment or gate (AMD64 APM vol. 2, tables 4-5 and 4-6). In long mode, those of 32 bits are those of
/// 64 bits, those of 16 bits and the task gate do not exist.
public enum SystemSegmentType: UInt8, Sendable {
  /// A task-state segment of 16 bits that no task uses.
  case availableTask16 = 1
  /// A local descriptor table.
  case localDescriptorTable = 2
  /// One that a task uses.
  case busyTask16 = 3
  /// A call gate of 16 bits.
  case callGate16 = 4
  /// A task gate.
  case taskGate = 5
  /// An interrupt gate of 16 bits.
  case interruptGate16 = 6
  /// A trap gate of 16 bits.
  case trapGate16 = 7
  /// A task-state segment that no task uses.
  case availableTask = 9
  /// One that a task uses.
  case busyTask = 11
  /// A call gate.
  case callGate = 12
  /// An interrupt gate: IF is cleared.
  case interruptGate = 14
  /// A trap gate.
  case trapGate = 15

  /// The form of 32 bits, or 64 in long mode, where there is another of 16.
  @inlinable public var isWide: Bool { rawValue & 8 != 0 }
}
