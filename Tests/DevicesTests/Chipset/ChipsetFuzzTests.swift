@testable import TrivisorDevices
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

@Suite("Chips under random accesses")
struct ChipsetFuzzTests {
  @Test("nothing that a guest or a device does traps", arguments: 1...6 as ClosedRange<UInt64>)
  func everything(seed: UInt64) throws {
    let machine = try ChipsetMachine(processors: 3)
    var generator = SeededGenerator(seed: seed)
    let ports: [UInt16] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61]
    for _ in 0..<60_000 {
      let index = Int.random(in: 0..<3, using: &generator)
      let processor = machine.processor(index)
      let width = AccessWidth.allCases[Int.random(in: 0..<4, using: &generator)]
      let bits = generator.next()
      let value = bits >> UInt64.random(in: 0..<64, using: &generator)
      switch Int.random(in: 0..<12, using: &generator) {
      case 0: _ = machine.bus.readPort(ports[Int(bits % 11)], width: width)
      case 1: _ = machine.bus.writePort(ports[Int(bits % 11)], UInt32(truncatingIfNeeded: value), width: width)
      case 2: _ = machine.bus.readMemory(GuestPhysicalAddress(0xfec0_0000 + bits % 4096), width: width)
      case 3: machine.writeInputRegister(UInt32(bits % 70), UInt32(truncatingIfNeeded: value))
      case 4: _ = processor.readPage(bits & 4095, width: width)
      case 5: processor.writePage(value, bits & 0xff0, width: .doubleword)
      case 6: _ = processor.readModelSpecific(0x800 + UInt32(bits & 0xff))
      case 7: _ = processor.writeModelSpecific(bits & 7 == 0 ? 0x6e0 : 0x800 + UInt32(bits >> 3 & 0xff), value)
      case 8: _ = bits & 15 == 0 && processor.setBase(0xfee0_0000 | (bits >> 4 & 3) << 10)
      case 9: machine.chipset.setLine(Int(bits % 26) - 1, asserted: bits & 1 << 40 != 0)
      case 10:
        machine.chipset.deliver(
          InterruptMessage(address: 0xfee0_0000 | bits & 0xf_ffff, data: UInt32(truncatingIfNeeded: value)))
      default:
        machine.clock.advance(nanoseconds: value >> 24)
        processor.advance()
        processor.acceptDeadline()
        _ = processor.takeEvent(acceptsInterrupts: bits & 1 != 0, acceptsNonMaskable: bits & 2 != 0)
      }
    }
  }
}
