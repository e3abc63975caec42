import Synchronization
import TrivisorVMM

/// Channel 2 of the interval timer, which on a PC is gated and observed through port 0x61.
public protocol SpeakerTimer: AnyObject, Sendable {
  /// The gate input: counting runs (or begins anew, by mode) while it is set.
  func setGate(_ isOpen: Bool)
  /// The output pin.
  var output: Bool { get }
}

/// System control port B, port 0x61: timer 2's gate and output, the speaker's switch, and the refresh toggle that old
/// software takes for a clock.
///
/// Only for techniques that have their interval timer in software. KVM's own timer is made with
/// `KVM_PIT_SPEAKER_DUMMY` and answers this port in the kernel, so that accesses never come here.
///
/// Bits 0 (gate) and 1 (speaker) can be written. Bit 4 toggles every 15.085 µs, bit 5 is timer 2's output. The memory
/// and channel check bits read as zero: no error ever.
public final class SystemControlPortB: ByteWidePortDevice {
  /// Its port on a PC.
  public static let conventionalPort: UInt16 = 0x61
  /// How many ports it answers.
  public static let portCount: UInt16 = 1

  private static let refreshNanoseconds: UInt64 = 15_085

  /// Bits 0 and 1, for a port whose owner keeps them.
  final class Switches: Sendable {
    let bits = Atomic<UInt8>(0)
  }

  private let timer: (any SpeakerTimer)?
  private let switches: Switches

  /// - Parameter timer: without one, bit 5 reads as one: a loop that waits for the timer ends at once and finds that it
  ///   can't measure anything.
  public convenience init(timer: (any SpeakerTimer)? = nil) {
    self.init(timer: timer, switches: Switches())
  }

  init(timer: (any SpeakerTimer)?, switches: Switches) {
    self.timer = timer
    self.switches = switches
  }

  func readByte(at offset: UInt16) -> UInt8 {
    var value = switches.bits.load(ordering: .relaxed)
    if monotonicNanoseconds() / Self.refreshNanoseconds & 1 != 0 { value |= 0x10 }
    if timer?.output ?? true { value |= 0x20 }
    return value
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let before = switches.bits.exchange(value & 0x03, ordering: .relaxed)
    if (before ^ value) & 0x01 != 0 { timer?.setGate(value & 0x01 != 0) }
    return .none
  }
}

extension SystemControlPortB.Switches: Restorable {
  /// Bits 0 and 1.
  struct Saved: SavedState {
    static let version = 1
    var bits: UInt8
  }

  func save() -> Saved { Saved(bits: bits.load(ordering: .relaxed)) }

  /// The timer's gate is the timer's.
  func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring("system control port B", requires: saved.bits & ~0x03 == 0, "its switches are \(saved.bits)")
    bits.store(saved.bits, ordering: .relaxed)
  }
}

extension SystemControlPortB: Restorable {
  /// The gate's and the speaker's switch.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var switches: Switches.Saved
  }

  /// What was written.
  public func save() -> Saved { Saved(switches: switches.save()) }

  /// - Throws: `RestoreFailure` for bits that the port doesn't keep.
  public func restore(_ saved: Saved) throws(RestoreFailure) { try switches.restore(saved.switches) }
}
