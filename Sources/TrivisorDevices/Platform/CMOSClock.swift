// The battery-backed clock of a PC with its 114 bytes of memory.
//
// No counter runs here. While the clock runs, the time registers are computed from the host's clock plus an offset; what
// the guest writes into them changes the offset, not the host. While the clock stands (SET, or the divider held in reset)
// the time is kept as it is, written to, and turned back into an offset when the clock goes on.
//
//     port 0x70  index of a byte (bit 7 masks NMI: ignored)
//     port 0x71  that byte:  00–09 time and alarm   0a–0d status A–D   0e–7f memory   32 century
//
// The three interrupts (periodic, alarm, update ended) are computed likewise: what happened since the registers were last
// looked at. Only while one of them is enabled does a timer of the host see to it that somebody looks in time.
//
// Source: Motorola MC146818A data sheet; the meaning of memory bytes: PC convention (Ralf Brown's list, CMOS.LST).

import Glibc
import Synchronization
import TrivisorVMM

/// An MC146818A real-time clock at two ports.
public final class CMOSClock: ByteWidePortDevice {
  /// The index register's port; the data register follows it.
  public static let conventionalPort: UInt16 = 0x70
  /// How many ports it answers.
  public static let portCount: UInt16 = 2
  /// Its interrupt by PC convention.
  public static let conventionalInterrupt = 8
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

  private struct State {
    var registers: CMOSRegisters
    var isAsserted = false
    var timer: HostTimer?
  }

  private let now: @Sendable () -> Instant
  private let line: InterruptLine?
  private let state: Mutex<State>

  /// - Parameters:
  ///   - memoryBelow4GiB: RAM in bytes that begins at address 0, as firmware stores it for boot loaders.
  ///   - memoryAbove4GiB: RAM in bytes from 4 GiB on.
  ///   - interrupt: asserted from an enabled event until the guest reads status C.
  ///   - now: the clock that it follows, in UTC.
  public init(
    memoryBelow4GiB: UInt64, memoryAbove4GiB: UInt64 = 0, interrupt: InterruptLine? = nil,
    now: @escaping @Sendable () -> Instant = Instant.hostNow
  ) {
    self.now = now
    line = interrupt
    let registers = CMOSRegisters(memoryBelow4GiB: memoryBelow4GiB, memoryAbove4GiB: memoryAbove4GiB, now: now())
    state = Mutex(State(registers: registers))
  }

  func readByte(at offset: UInt16) -> UInt8 {
    // The index can't be read back.
    guard offset == 1 else { return 0xff }
    let now = now()
    return state.withLock { state in
      let value = state.registers.read(now)
      if state.registers.index == CMOSRegisters.statusC { updateInterrupt(&state, now) }
      return value
    }
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    guard offset == 1 else {
      state.withLock { $0.registers.index = value & 0x7f }
      return .none
    }
    let now = now()
    state.withLock { state in
      state.registers.write(value, now)
      updateInterrupt(&state, now)
    }
    return .none
  }

  /// The host's timer: something may have happened.
  func look() {
    let now = now()
    state.withLock { updateInterrupt(&$0, now) }
  }

  private func updateInterrupt(_ state: inout State, _ now: Instant) {
    state.registers.note(now)
    let asserted = state.registers.isInterruptPending
    if asserted != state.isAsserted {
      state.isAsserted = asserted
      line?.set(asserted: asserted)
    }
    let delay = state.registers.nanosecondsToNextInterrupt(now)
    if state.timer == nil {
      guard delay != nil else { return }
      state.timer = HostTimer { [weak self] in self?.look() }
    }
    state.timer?.set(nanoseconds: delay)
  }
}

extension CMOSClock: Restorable {
  /// The registers, the memory, and what the guest's clock is ahead of the host's.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var registers: CMOSRegisters.Saved
  }

  /// As it is, without what has happened since it was last looked at: the restored clock notes that itself.
  public func save() -> Saved { state.withLock { Saved(registers: $0.registers.save()) } }

  /// From now on it follows the host's clock with the saved offset: a clock that runs has gone on meanwhile.
  /// - Throws: `RestoreFailure` for values that no register takes.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let registers = try CMOSRegisters(saved.registers)
    let now = now()
    state.withLock { state in
      state.registers = registers
      updateInterrupt(&state, now)
      line?.set(asserted: state.isAsserted)
    }
  }
}
