import Synchronization
import TrivisorVMM

/// ACPI's power management timer: a free-running counter of 24 bits at 3.579545 MHz (ACPI Specification 6.5, 4.8.3.3).
///
/// It only counts: its overflow interrupts nobody, which the PM1 enable register says by not having the bit. The FADT
/// does not announce it, because kernels test an announced one for milliseconds; it is where PIIX4's is, for software that
/// looks there.
public final class PowerManagementTimer: PortDevice {
  /// Behind `PowerManagementPorts`, as in Intel's PIIX4.
  public static let conventionalPort: UInt16 = PowerManagementPorts.conventionalPort + 8
  /// How many ports it answers.
  public static let portCount: UInt16 = 4
  /// Ticks a second.
  static let frequency: UInt64 = 3_579_545

  private let now: @Sendable () -> UInt64
  /// What the counter is ahead of `now`, in nanoseconds.
  private let lead = Atomic<UInt64>(0)

  /// - Parameter now: nanoseconds of a clock that does not jump.
  public init(now: @escaping @Sendable () -> UInt64 = monotonicNanoseconds) { self.now = now }

  /// The counter, or a part of it.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    guard offset < Self.portCount else { return .max }
    let now = now() &+ lead.load(ordering: .relaxed)
    let ticks = now / 1_000_000_000 &* Self.frequency &+ now % 1_000_000_000 &* Self.frequency / 1_000_000_000
    return UInt32(truncatingIfNeeded: ticks & 0xff_ffff) >> UInt32(8 * offset)
  }

  /// It can't be written.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect { .none }
}

extension PowerManagementTimer: Restorable {
  /// Where the counter is.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    /// Since the counter was zero.
    var nanoseconds: UInt64
  }

  /// The time that it has counted.
  public func save() -> Saved { Saved(nanoseconds: now() &+ lead.load(ordering: .relaxed)) }

  /// It goes on from there.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    lead.store(saved.nanoseconds &- now(), ordering: .relaxed)
  }
}
