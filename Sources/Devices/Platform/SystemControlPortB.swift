import Synchronization
import VMM

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

  private let timer: (any SpeakerTimer)?
  private let switches = Atomic<UInt8>(0)

  /// - Parameter timer: without one, bit 5 reads as one: a loop that waits for the timer ends at once and finds that it
  ///   can't measure anything.
  public init(timer: (any SpeakerTimer)? = nil) {
    self.timer = timer
  }

  func readByte(at offset: UInt16) -> UInt8 {
    var value = switches.load(ordering: .relaxed)
    if monotonicNanoseconds() / Self.refreshNanoseconds & 1 != 0 { value |= 0x10 }
    if timer?.output ?? true { value |= 0x20 }
    return value
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let before = switches.exchange(value & 0x03, ordering: .relaxed)
    if (before ^ value) & 0x01 != 0 { timer?.setGate(value & 0x01 != 0) }
    return .none
  }
}
