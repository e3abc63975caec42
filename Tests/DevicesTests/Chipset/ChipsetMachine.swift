@testable import TrivisorDevices
import Synchronization
import TrivisorVMM

/// A clock that goes when told to; a tick of its counter is half a nanosecond.
final class ManualClock: ChipsetClock {
  private let time = Atomic<UInt64>(1_000_000_000)
  var nanoseconds: UInt64 { time.load(ordering: .relaxed) }
  var timestamp: UInt64 { nanoseconds * 2 }
  var timestampFrequency: UInt64 { 2_000_000_000 }
  func advance(nanoseconds: UInt64) { time.add(nanoseconds, ordering: .relaxed) }
}

/// The chips on a bus, with processors that take what comes.
struct ChipsetMachine {
  let clock = ManualClock()
  let chipset: Chipset
  let bus: Bus

  init(processors: Int = 1) throws {
    chipset = Chipset(processorCount: processors, clock: clock)
    bus = try Bus(ports: chipset.portClaims, memory: chipset.memoryClaims)
  }

  func processor(_ index: Int = 0) -> ProcessorInterrupts { chipset.processor(index) }

  /// Enables a local APIC: spurious vector 0xff.
  func enable(_ index: Int = 0) { write(0xf0, 0x1ff, index) }

  func write(_ register: UInt64, _ value: UInt32, _ index: Int = 0) {
    processor(index).writePage(UInt64(value), register, width: .doubleword)
  }

  func read(_ register: UInt64, _ index: Int = 0) -> UInt32 {
    UInt32(truncatingIfNeeded: processor(index).readPage(register, width: .doubleword))
  }

  func endInterrupt(_ index: Int = 0) { write(0xb0, 0, index) }

  /// The vector that the processor takes now, with interrupts on.
  func vector(_ index: Int = 0) -> UInt8? {
    guard case .interrupt(let vector)? = event(index) else { return nil }
    return vector
  }

  func event(_ index: Int = 0) -> ProcessorInterrupts.Event? {
    processor(index).takeEvent(acceptsInterrupts: true, acceptsNonMaskable: true)
  }

  func writeInput(_ input: Int, _ entry: UInt64) {
    writeInputRegister(UInt32(0x11 + 2 * input), UInt32(truncatingIfNeeded: entry >> 32))
    writeInputRegister(UInt32(0x10 + 2 * input), UInt32(truncatingIfNeeded: entry))
  }

  func readInput(_ input: Int) -> UInt64 {
    UInt64(readInputRegister(UInt32(0x10 + 2 * input))) | UInt64(readInputRegister(UInt32(0x11 + 2 * input))) << 32
  }

  func writeInputRegister(_ number: UInt32, _ value: UInt32) {
    _ = bus.writeMemory(Chipset.inputControllerAddress, UInt64(number), width: .doubleword)
    _ = bus.writeMemory(GuestPhysicalAddress(0xfec0_0010), UInt64(value), width: .doubleword)
  }

  func readInputRegister(_ number: UInt32) -> UInt32 {
    _ = bus.writeMemory(Chipset.inputControllerAddress, UInt64(number), width: .doubleword)
    return UInt32(truncatingIfNeeded: bus.readMemory(GuestPhysicalAddress(0xfec0_0010), width: .doubleword))
  }

  /// The 8259s as a PC's firmware sets them up: vectors 8 and 0x70, nothing masked.
  func initializeLegacyController(masterEnd: UInt8 = 1) {
    for (port, base, cascade, end) in [(0x20 as UInt16, 8 as UInt8, 4 as UInt8, masterEnd), (0xa0, 0x70, 2, 1)] {
      bus.outb(port, 0x11)
      bus.outb(port + 1, base)
      bus.outb(port + 1, cascade)
      bus.outb(port + 1, end)
      bus.outb(port + 1, 0)
    }
  }
}
