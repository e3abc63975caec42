import Synchronization
import TrivisorVMM

/// The pvpanic port: a guest kernel's last words, so that a panic is told from a reset.
///
/// Reading gives the events that may be reported; writing reports one or more (QEMU, `docs/specs/pvpanic`). A panic ends
/// the machine. A guest that says that it loads a crash kernel goes on: that kernel saves what it wants and resets.
public final class PVPanic: ByteWidePortDevice {
  /// Its port by convention, named in the DSDT.
  public static let conventionalPort: UInt16 = 0x505
  /// How many ports it answers.
  public static let portCount: UInt16 = 1

  /// What a guest reports.
  public struct Events: OptionSet, Sendable {
    /// The bits of the register.
    public let rawValue: UInt8
    /// Takes the register's bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The kernel gave up.
    public static let panicked = Events(rawValue: 1 << 0)
    /// The kernel gave up and hands over to a crash kernel.
    public static let crashLoaded = Events(rawValue: 1 << 1)
    /// The guest is about to switch itself off, when asked to.
    public static let shutdown = Events(rawValue: 1 << 2)
  }

  /// The summary of the crash report that ends the machine.
  public static let panicSummary = "the guest's kernel panicked"

  private let seen = Atomic<UInt8>(0)

  /// Nothing reported yet.
  public init() {}

  /// Everything reported so far: stays after the machine has ended, whatever ended it.
  public var events: Events { Events(rawValue: seen.load(ordering: .acquiring)) }

  func readByte(at offset: UInt16) -> UInt8 {
    Events([.panicked, .crashLoaded, .shutdown]).rawValue
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let reported = Events(rawValue: value)
    seen.bitwiseOr(value, ordering: .acquiringAndReleasing)
    if reported.contains(.panicked) { return .stop(.crashed(CrashReport(summary: Self.panicSummary))) }
    if reported.contains(.shutdown) { return .stop(.shutdown) }
    return .none
  }
}

extension PVPanic: Restorable {
  /// What was reported.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var events: UInt8
  }

  /// All events so far.
  public func save() -> Saved { Saved(events: events.rawValue) }

  /// Any can have been reported.
  public func restore(_ saved: Saved) throws(RestoreFailure) { seen.store(saved.events, ordering: .releasing) }
}
