import Synchronization
import TrivisorDevices
import TrivisorVMM

/// Local APICs, I/O APIC, 8259s and 8254, with three processors and a clock of the input's own.
final class ChipsetTarget: FuzzTarget {
  static let name = "chipset"
  static let sizeLimit = 1000
  static let seeds: [[UInt8]] = [
    // The spurious vector, a timer, and time.
    [5, 0xf0, 0, 0xff, 1, 0, 0, 5, 0x20, 3, 0x30, 0, 0, 0, 5, 0x80, 3, 0xff, 0, 0, 0, 10, 0xff, 0xff],
    [0, 0x20, 0x11, 0, 0x21, 0x20, 0, 0x21, 4, 0, 0x21, 1, 9, 3], [3, 0x10, 0x41, 0, 0, 0, 9, 0x81],
  ]

  private final class Clock: ChipsetClock {
    private let time = Atomic<UInt64>(1_000_000_000)
    var nanoseconds: UInt64 { time.load(ordering: .relaxed) }
    var timestamp: UInt64 { nanoseconds &* 2 }
    let timestampFrequency: UInt64 = 2_000_000_000
    func advance(nanoseconds: UInt64) { time.wrappingAdd(nanoseconds, ordering: .relaxed) }
  }

  private static let ports: [UInt16] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0xf0, 0xf1]

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    let clock = Clock()
    let chipset = Chipset(processorCount: 3, clock: clock)
    guard let bus = try? Bus(ports: chipset.portClaims, memory: chipset.memoryClaims) else { return }
    var input = FuzzInput(bytes)
    while !input.isEmpty {
      let form = input.byte()
      let processor = chipset.processor(Int(form >> 4) % 3)
      let width = AccessWidth.allCases[Int(form >> 6) % AccessWidth.allCases.count]
      switch form & 15 {
      case 0, 1: _ = bus.writePort(Self.ports[Int(input.byte()) % Self.ports.count], UInt32(input.byte()), width: .byte)
      case 2: _ = bus.readPort(Self.ports[Int(input.byte()) % Self.ports.count], width: width)
      case 3:
        let page = Chipset.inputControllerAddress
        _ = bus.writeMemory(page, UInt64(input.byte()), width: .doubleword)
        if let data = page.advanced(by: 0x10) { _ = bus.writeMemory(data, input.number(), width: .doubleword) }
      case 4:
        let address = Chipset.inputControllerAddress.advanced(by: UInt64(input.number(UInt16.self) & 0xfff))
        if let address { _ = bus.readMemory(address, width: width) }
      case 5: processor.writePage(UInt64(input.number(UInt32.self)), UInt64(input.byte()) << 4, width: .doubleword)
      case 6: processor.writePage(input.number(), UInt64(input.number(UInt16.self) & 0xfff), width: width)
      case 7: _ = processor.readPage(UInt64(input.number(UInt16.self) & 0xfff), width: width)
      case 8: _ = processor.writeModelSpecific(0x800 + UInt32(input.byte()), input.number())
      case 9:
        let line = input.byte()
        chipset.setLine(Int(line & 0x7f) - 1, asserted: line & 0x80 != 0)
      case 10: clock.advance(nanoseconds: UInt64(input.number(UInt16.self)) << 10)
      case 11: clock.advance(nanoseconds: input.number() >> 8)
      case 12:
        chipset.deliver(
          InterruptMessage(address: 0xfee0_0000 | UInt64(input.number(UInt32.self)), data: input.number()))
      case 13: _ = processor.setBase(0xfee0_0000 | UInt64(input.number(UInt16.self)))
      case 14: _ = processor.writeModelSpecific(0x6e0, input.number())
      default: _ = processor.readModelSpecific(0x800 + UInt32(input.byte()))
      }
      processor.advance()
      processor.acceptDeadline()
      _ = processor.takeEvent(acceptsInterrupts: form & 0x20 != 0, acceptsNonMaskable: true)
    }
  }
}
