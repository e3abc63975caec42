@testable import TrivisorDevices
import Testing
import TrivisorVMM

@Suite("8259 pair")
struct LegacyControllerTests {
  private let machine: ChipsetMachine

  init() throws {
    machine = try ChipsetMachine()
    machine.initializeLegacyController()
  }

  private func pulse(_ line: Int) {
    machine.chipset.setLine(line, asserted: true)
    machine.chipset.setLine(line, asserted: false)
  }

  @Test("lines go by their numbers, the slave's in the place of line 2")
  func order() {
    for line in [7, 3, 12, 8, 1] { pulse(line) }
    var vectors: [UInt8?] = []
    for _ in 0..<5 {
      let vector = machine.vector()
      vectors.append(vector)
      if let vector, vector >= 0x70 { machine.bus.outb(0xa0, 0x20) }
      machine.bus.outb(0x20, 0x20)
    }
    #expect(vectors == [0x09, 0x70, 0x74, 0x0b, 0x0f])
    #expect(machine.vector() == nil)
  }

  @Test("what is in service keeps lower ones back until its end; higher ones come through")
  func nesting() {
    pulse(4)
    #expect(machine.vector() == 0x0c)
    pulse(5)
    #expect(machine.vector() == nil)
    pulse(1)
    #expect(machine.vector() == 0x09)
    machine.bus.outb(0x20, 0x0b)
    #expect(machine.bus.inb(0x20) == 0x12)
    machine.bus.outb(0x20, 0x0a)
    #expect(machine.bus.inb(0x20) == 0x20)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.vector() == nil)
    machine.bus.outb(0x20, 0x64)
    #expect(machine.vector() == 0x0d)
  }

  @Test("the mask holds a request, does not lose it")
  func mask() {
    machine.bus.outb(0x21, 0xfb | 0x20)
    #expect(machine.bus.inb(0x21) == 0xfb)
    pulse(5)
    #expect(machine.processor().pending.isEmpty)
    machine.bus.outb(0x21, 0)
    #expect(machine.vector() == 0x0d)
  }

  @Test("level-triggered by ELCR: again while it is asserted, gone when it is not")
  func level() {
    machine.bus.outb(0x4d0, 0xff)
    machine.bus.outb(0x4d1, 0xff)
    #expect(machine.bus.inb(0x4d0) == 0xf8 && machine.bus.inb(0x4d1) == 0xde)
    machine.chipset.setLine(11, asserted: true)
    #expect(machine.vector() == 0x73)
    machine.bus.outb(0xa0, 0x20)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.vector() == 0x73)
    machine.chipset.setLine(11, asserted: false)
    machine.bus.outb(0xa0, 0x20)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.vector() == nil)
  }

  @Test("an acknowledgement without a request is line 7, of the slave line 15")
  func spurious() {
    var pair = LegacyController()
    for (port, base) in [(0x20 as UInt16, 8 as UInt8), (0xa0, 0x70)] {
      pair.write(0x11, to: port)
      pair.write(base, to: port + 1)
      pair.write(0, to: port + 1)
      pair.write(1, to: port + 1)
    }
    #expect(pair.acknowledge() == 0x0f)
    #expect(pair.read(0x20) == 0)
  }

  @Test("automatic end, rotation, special mask, polling")
  func modes() {
    machine.initializeLegacyController(masterEnd: 3)
    pulse(4)
    #expect(machine.vector() == 0x0c)
    pulse(5)
    #expect(machine.vector() == 0x0d)
    machine.initializeLegacyController()
    pulse(4)
    #expect(machine.vector() == 0x0c)
    machine.bus.outb(0x20, 0xa0)
    // Line 4 has become the last.
    pulse(4)
    pulse(5)
    #expect(machine.vector() == 0x0d)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.vector() == 0x0c)
    machine.initializeLegacyController()
    pulse(1)
    #expect(machine.vector() == 0x09)
    machine.bus.outb(0x21, 0x02)
    machine.bus.outb(0x20, 0x68)
    pulse(6)
    #expect(machine.vector() == 0x0e)
    machine.initializeLegacyController()
    pulse(3)
    machine.bus.outb(0x20, 0x0c)
    #expect(machine.bus.inb(0x20) == 0x83)
    #expect(machine.vector() == nil)
    machine.bus.outb(0x20, 0x0c)
    #expect(machine.bus.inb(0x20) == 0)
  }

  @Test("in special mask mode, an end without a name is none of a masked line's")
  func specialMaskEnd() {
    pulse(1)
    #expect(machine.vector() == 0x09)
    machine.bus.outb(0x21, 0x02)
    machine.bus.outb(0x20, 0x68)
    pulse(6)
    #expect(machine.vector() == 0x0e)
    machine.bus.outb(0x20, 0x20)
    machine.bus.outb(0x20, 0x0b)
    #expect(machine.bus.inb(0x20) == 0x02)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.bus.inb(0x20) == 0x02)
    machine.bus.outb(0x20, 0x61)
    #expect(machine.bus.inb(0x20) == 0)
  }

  @Test("LINT0 as a level interrupts again after each end while the output stays")
  func levelLinePin() {
    machine.enable()
    machine.write(0x350, 0x8045)
    pulse(4)
    #expect(machine.vector() == 0x45)
    #expect(machine.read(0x350) == 0xc045)
    machine.endInterrupt()
    #expect(machine.vector() == 0x45)
    // Polled, the 8259 is content.
    machine.bus.outb(0x20, 0x0c)
    #expect(machine.bus.inb(0x20) == 0x84)
    machine.endInterrupt()
    #expect(machine.processor().pending.isEmpty)
    #expect(machine.read(0x350) == 0x8045)
  }

  @Test("LINT0 decides what the output is to the processor")
  func linePin() {
    machine.enable()
    machine.write(0x350, 0x1_0700)
    pulse(4)
    #expect(machine.processor().pending.isEmpty)
    machine.write(0x350, 0x700)
    #expect(machine.vector() == 0x0c)
    machine.bus.outb(0x20, 0x20)
    machine.write(0x350, 0x45)
    pulse(4)
    #expect(machine.vector() == 0x45)
    machine.endInterrupt()
    machine.bus.outb(0x20, 0x0c)
    #expect(machine.bus.inb(0x20) == 0x84)
    machine.bus.outb(0x20, 0x20)
    machine.write(0x350, 0x400)
    pulse(4)
    #expect(machine.event() == .nonMaskable)
    // Without a local APIC it is wired directly.
    #expect(machine.processor().setBase(0xfee0_0100))
    #expect(machine.vector() == 0x0c)
  }
}
