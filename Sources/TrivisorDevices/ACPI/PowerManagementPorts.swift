import Synchronization
import TrivisorVMM

/// ACPI's fixed registers: PM1 event block and PM1 control (ACPI Specification 6.5, 4.8.3).
///
///     offset 0  PM1 status   power button pressed (bit 8); written bits are cleared
///            2  PM1 enable   which of them raise the system control interrupt
///            4  PM1 control  SCI_EN (always set), SLP_TYP, SLP_EN: sleep type 5 is "soft off"
///
/// The machine is in ACPI mode from the start.
public final class PowerManagementPorts: PortDevice {
  /// By convention; the FADT tells the guest.
  public static let conventionalPort: UInt16 = 0x600
  /// How many ports it answers.
  public static let portCount: UInt16 = 6
  /// The system control interrupt's line, by PC convention.
  public static let conventionalInterrupt = 9
  /// What the DSDT gives for the state S5.
  static let softOffSleepType: UInt16 = 5

  private static let powerButton: UInt16 = 1 << 8
  /// Global lock, power button, sleep button, clock: the events that exist, of which only one ever happens here.
  private static let enableMask: UInt16 = 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10
  private static let controlEnabled: UInt16 = 1 << 0
  private static let sleepEnable: UInt16 = 1 << 13

  private struct State {
    var status: UInt16 = 0
    var enable: UInt16 = 0
    var sleepType: UInt16 = 0
    var isAsserted = false
  }

  private let line: InterruptLine
  private let state = Mutex(State())

  /// - Parameter interrupt: the system control interrupt, level-triggered.
  public init(interrupt: InterruptLine) { line = interrupt }

  /// Presses the power button, from any thread: asks the guest to shut down in an orderly way.
  /// - Returns: whether the guest has asked to be told. Nothing happens if it hasn't.
  public func pressPowerButton() -> Bool {
    state.withLock { state in
      guard state.enable & Self.powerButton != 0 else { return false }
      state.status |= Self.powerButton
      updateLine(&state)
      return true
    }
  }

  private func updateLine(_ state: inout State) {
    let asserted = state.status & state.enable != 0
    guard asserted != state.isAsserted else { return }
    state.isAsserted = asserted
    line.set(asserted: asserted)
  }

  /// The registers, as bytes one after the other.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    let registers = state.withLock { state in
      UInt64(state.status) | UInt64(state.enable) << 16
        | UInt64(Self.controlEnabled | state.sleepType << 10) << 32
    }
    return offset < Self.portCount ? UInt32(truncatingIfNeeded: registers >> UInt64(8 * offset)) : .max
  }

  /// Words at even offsets, as the specification wants them; a doubleword at 0 is status and enable. Bytes are taken as
  /// the half of the word that they are.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    var effect = DeviceEffect.none
    state.withLock { state in
      for byte in 0..<min(width.rawValue, 4) {
        let part = UInt16(truncatingIfNeeded: value >> UInt32(8 * byte)) & 0xff
        let address = offset &+ UInt16(byte)
        let high = address & 1 != 0
        switch address & ~1 {
        case 0: state.status &= ~(high ? part << 8 : part)
        case 2:
          state.enable = (high ? state.enable & 0x00ff | part << 8 : state.enable & 0xff00 | part) & Self.enableMask
        case 4 where high:
          state.sleepType = part >> 2 & 0x07
          if part << 8 & Self.sleepEnable != 0, state.sleepType == Self.softOffSleepType { effect = .stop(.shutdown) }
        default: break
        }
      }
      updateLine(&state)
    }
    return effect
  }
}

extension PowerManagementPorts: Restorable {
  /// The registers.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var status: UInt16
    var enable: UInt16
    var sleepType: UInt16
  }

  /// All that can be written, and the events.
  public func save() -> Saved {
    state.withLock { Saved(status: $0.status, enable: $0.enable, sleepType: $0.sleepType) }
  }

  /// - Throws: `RestoreFailure` for bits that a register doesn't keep.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "power management",
      requires: saved.status & ~Self.powerButton == 0 && saved.enable & ~Self.enableMask == 0
        && saved.sleepType < 8,
      "its registers are \(saved.status), \(saved.enable) and \(saved.sleepType)")
    state.withLock { state in
      (state.status, state.enable, state.sleepType) = (saved.status, saved.enable, saved.sleepType)
      updateLine(&state)
      line.set(asserted: state.isAsserted)
    }
  }
}
