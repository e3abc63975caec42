import Synchronization
import TrivisorVMM

/// A port by which a guest says how far it has come: whatever byte it writes is noted with the time.
///
/// So the time that a boot takes can be seen from outside: a guest's init writes 1, a service that is ready 2, and so on.
/// Reads give the last byte written, or 0.
public final class MilestonePort: ByteWidePortDevice {
  /// Where guests find it.
  public static let conventionalPort: UInt16 = 0x5f4
  /// How many ports it answers.
  public static let portCount: UInt16 = 1
  /// Later ones are not noted.
  private static let limit = 64

  /// A byte that the guest wrote, and when.
  public struct Milestone: Sendable, Equatable {
    /// What it wrote.
    public var value: UInt8
    /// On the host's CLOCK_MONOTONIC, in nanoseconds.
    public var time: UInt64
  }

  private let noted = Mutex<[Milestone]>([])

  /// Nothing noted yet.
  public init() {}

  /// In the order in which they were written.
  public var milestones: [Milestone] { noted.withLock { $0 } }

  func readByte(at offset: UInt16) -> UInt8 { noted.withLock { $0.last?.value ?? 0 } }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let now = monotonicNanoseconds()
    noted.withLock { noted in
      if noted.count < Self.limit { noted.append(Milestone(value: value, time: now)) }
    }
    return .none
  }
}

extension MilestonePort: Restorable {
  /// What was noted, and how long ago.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1

    struct Milestone: Codable, Sendable, Equatable {
      var value: UInt8
      /// Nanoseconds before it was saved.
      var age: UInt64
    }

    var milestones: [Milestone]
  }

  /// All milestones.
  public func save() -> Saved {
    let now = monotonicNanoseconds()
    return Saved(milestones: milestones.map { Saved.Milestone(value: $0.value, age: now &- $0.time) })
  }

  /// - Throws: `RestoreFailure` when there are more than it keeps.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "milestone port", requires: saved.milestones.count <= Self.limit, "it has \(saved.milestones.count) milestones")
    let now = monotonicNanoseconds()
    noted.withLock { noted in
      noted = saved.milestones.map { Milestone(value: $0.value, time: now &- min($0.age, now)) }
    }
  }
}
