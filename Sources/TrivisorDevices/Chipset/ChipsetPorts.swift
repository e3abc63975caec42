// Where the guest meets the chips that are not a processor's own.

import TrivisorVMM

extension Chipset {
  /// 8259s with their edge/level registers, 8254, port 0x61, x87 errors.
  public var portClaims: [Bus.PortClaim] {
    [
      .init("interrupt controller, master", base: 0x20, count: 2, device: LegacyPorts(chipset: self, base: 0x20)),
      .init("interrupt controller, slave", base: 0xa0, count: 2, device: LegacyPorts(chipset: self, base: 0xa0)),
      .init("interrupt controllers, edge or level", base: 0x4d0, count: 2, device: LevelPorts(chipset: self)),
      .init("interval timer", base: 0x40, count: 4, device: TimerPorts(chipset: self)),
      .init(
        "system control port B", base: SystemControlPortB.conventionalPort, count: SystemControlPortB.portCount,
        device: SystemControlPortB(timer: SpeakerCounter(chipset: self), switches: speakerSwitches)),
      .init(
        "x87 errors", base: FloatingPointErrorPorts.conventionalPort, count: FloatingPointErrorPorts.portCount,
        device: FloatingPointErrorPorts(chipset: self)),
    ]
  }

  /// The I/O APIC.
  public var memoryClaims: [Bus.MemoryClaim] {
    [.init("I/O APIC", base: Self.inputControllerAddress, size: 4096, device: InputControllerPage(chipset: self))]
  }
}

private final class LegacyPorts: ByteWidePortDevice {
  private let chipset: Chipset
  private let base: UInt16

  init(chipset: Chipset, base: UInt16) {
    self.chipset = chipset
    self.base = base
  }

  func readByte(at offset: UInt16) -> UInt8 { chipset.withState { $0.legacy.read(base &+ offset) } }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    chipset.withState { $0.legacy.write(value, to: base &+ offset) }
    return .none
  }
}

private final class LevelPorts: ByteWidePortDevice {
  private let chipset: Chipset
  init(chipset: Chipset) { self.chipset = chipset }

  func readByte(at offset: UInt16) -> UInt8 {
    UInt8(truncatingIfNeeded: chipset.withState { $0.legacy.levelLines } >> (8 * (offset & 1)))
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    chipset.withState { state in
      let shift = 8 * (offset & 1)
      state.legacy.levelLines = state.legacy.levelLines & ~(0xff << shift) | UInt16(value) << shift
    }
    return .none
  }
}

private final class TimerPorts: ByteWidePortDevice {
  private let chipset: Chipset
  init(chipset: Chipset) { self.chipset = chipset }

  func readByte(at offset: UInt16) -> UInt8 {
    let now = chipset.clock.nanoseconds
    return chipset.withState { state in
      chipset.advanceIntervalTimer(&state)
      return state.timer.read(offset, now: now)
    }
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    let now = chipset.clock.nanoseconds
    chipset.withState { state in
      chipset.advanceIntervalTimer(&state)
      state.timer.write(value, to: offset, now: now)
      chipset.restartIntervalTimer(&state)
    }
    return .none
  }
}

/// Counter 2.
private final class SpeakerCounter: SpeakerTimer {
  private let chipset: Chipset
  init(chipset: Chipset) { self.chipset = chipset }

  func setGate(_ isOpen: Bool) {
    let now = chipset.clock.nanoseconds
    chipset.withState { $0.timer.setGate(isOpen, now: now) }
  }

  var output: Bool {
    let now = chipset.clock.nanoseconds
    return chipset.withState { $0.timer.counters[2].output(now) }
  }
}

private final class InputControllerPage: MemoryDevice {
  private let chipset: Chipset
  init(chipset: Chipset) { self.chipset = chipset }

  /// Registers are doublewords; a narrower load gives the part.
  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    UInt64(chipset.withState { $0.inputs.read(offset & ~15) }) >> (8 * (offset & 15))
  }

  /// The index register takes bytes too.
  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    guard offset & 15 == 0, width.rawValue >= 4 || offset == 0 else { return .none }
    chipset.withState { state in
      if let message = state.inputs.write(UInt32(truncatingIfNeeded: value), at: offset) {
        Chipset.route(&state, message)
      }
    }
    return .none
  }
}
