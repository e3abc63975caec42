// The battery-backed clock of a PC with its 114 bytes of memory.
//
// No counter runs here. While the clock runs, the time registers are computed from the host's clock plus an offset; what
// the guest writes into them changes the offset, not the host. While the clock stands (SET, or the divider held in reset)
// the time is kept as it is, written to, and turned back into an offset when the clock goes on.
//
//     port 0x70  index of a byte (bit 7 masks NMI: ignored)
//     port 0x71  that byte:  00–09 time and alarm   0a–0d status A–D   0e–7f memory   32 century
//
// Interrupts are left out: the enable bits in status B can be set, but status C never says that anything is pending, and
// IRQ 8 is never raised. Guests take time of day from here and ticks from elsewhere.
//
// Source: Motorola MC146818A data sheet; the meaning of memory bytes: PC convention (Ralf Brown's list, CMOS.LST).

import Glibc
import Synchronization
import VMM

/// An MC146818A real-time clock at two ports.
public final class CMOSClock: ByteWidePortDevice {
  /// The index register's port; the data register follows it.
  public static let conventionalPort: UInt16 = 0x70
  /// How many ports it answers.
  public static let portCount: UInt16 = 2
  /// The memory byte that holds the century, as the FADT tells the guest.
  public static let centuryRegister: UInt8 = 0x32

  /// A point in time: seconds since 1970 (UTC), and nanoseconds of the second.
  public struct Instant: Sendable, Equatable {
    /// Whole seconds.
    public var seconds: Int64
    /// 0–999,999,999.
    public var nanoseconds: Int64

    /// Takes both parts.
    public init(seconds: Int64, nanoseconds: Int64) {
      self.seconds = seconds
      self.nanoseconds = nanoseconds
    }

    /// The host's clock.
    public static func hostNow() -> Instant {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      return Instant(seconds: Int64(now.tv_sec), nanoseconds: Int64(now.tv_nsec))
    }
  }

  private let now: @Sendable () -> Instant
  private let state: Mutex<CMOSRegisters>

  /// - Parameters:
  ///   - memoryBelow4GiB: RAM in bytes that begins at address 0, as firmware stores it for boot loaders.
  ///   - memoryAbove4GiB: RAM in bytes from 4 GiB on.
  ///   - now: the clock that it follows, in UTC.
  public init(
    memoryBelow4GiB: UInt64, memoryAbove4GiB: UInt64 = 0, now: @escaping @Sendable () -> Instant = Instant.hostNow
  ) {
    self.now = now
    state = Mutex(CMOSRegisters(memoryBelow4GiB: memoryBelow4GiB, memoryAbove4GiB: memoryAbove4GiB))
  }

  func readByte(at offset: UInt16) -> UInt8 {
    let now = now()
    // The index can't be read back.
    return offset == 1 ? state.withLock { $0.read(now) } : 0xff
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let now = now()
    state.withLock { registers in
      if offset == 0 { registers.index = value & 0x7f } else { registers.write(value, now) }
    }
    return .none
  }
}
