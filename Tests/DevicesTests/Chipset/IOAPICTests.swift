@testable import TrivisorDevices
import Testing
import TrivisorVMM

@Suite("I/O APIC")
struct IOAPICTests {
  private let machine: ChipsetMachine

  init() throws {
    machine = try ChipsetMachine(processors: 2)
    machine.enable()
    machine.bus.outb(0x21, 0xff)
    machine.bus.outb(0xa1, 0xff)
  }

  private func set(_ line: Int, _ asserted: Bool) { machine.chipset.setLine(line, asserted: asserted) }

  @Test("24 inputs, all masked; only what can be written is")
  func registers() {
    #expect(machine.readInputRegister(1) == 0x17_0011)
    for input in 0..<24 {
      #expect(machine.readInput(input) == 0x1_0000)
      machine.writeInput(input, .max)
      #expect(machine.readInput(input) == 0xff00_0000_0001_afff)
    }
    machine.writeInputRegister(0, .max)
    #expect(machine.readInputRegister(0) == 0x0f00_0000)
    #expect(machine.readInputRegister(0x40) == 0)
  }

  @Test("edge: once a rise; a rise while masked is lost")
  func edge() {
    machine.writeInput(20, 0x1_0061)
    set(20, true)
    machine.writeInput(20, 0x61)
    #expect(machine.vector() == nil)
    set(20, true)
    #expect(machine.vector() == nil)
    set(20, false)
    set(20, true)
    #expect(machine.vector() == 0x61)
    machine.endInterrupt()
    #expect(machine.vector() == nil)
  }

  @Test("level: again after each end until the line is released; remote IRR meanwhile")
  func level() {
    machine.writeInput(20, 0x8061)
    set(20, true)
    #expect(machine.readInput(20) == 0xc061)
    for _ in 0..<3 {
      #expect(machine.vector() == 0x61)
      #expect(machine.vector() == nil)
      machine.endInterrupt()
    }
    set(20, false)
    #expect(machine.vector() == 0x61)
    machine.endInterrupt()
    #expect(machine.vector() == nil && machine.readInput(20) == 0x8061)
  }

  @Test("level: what is masked waits; through edge and back remote IRR is cleared")
  func masking() {
    machine.writeInput(20, 0x1_8061)
    set(20, true)
    #expect(machine.vector() == nil)
    machine.writeInput(20, 0x8061)
    #expect(machine.vector() == 0x61)
    machine.writeInput(20, 0x1_0061)
    machine.writeInput(20, 0x1_8061)
    #expect(machine.readInput(20) == 0x1_8061)
  }

  @Test("level: what nobody accepts has no remote IRR, and comes when somebody does")
  func refused() {
    machine.write(0xf0, 0xff)
    machine.writeInput(20, 0x8061)
    set(20, true)
    #expect(machine.readInput(20) == 0x8061)
    machine.enable()
    #expect(machine.readInput(20) == 0xc061)
    #expect(machine.vector() == 0x61)
    set(20, false)
    machine.endInterrupt()
    #expect(machine.vector() == nil)
    // For a logical destination that nobody has yet.
    machine.writeInput(21, 4 << 56 | 0x8871)
    set(21, true)
    #expect(machine.readInput(21) == 4 << 56 | 0x8871)
    machine.write(0xd0, 4 << 24)
    #expect(machine.vector() == 0x71)
  }

  @Test("destinations and delivery modes")
  func destinations() {
    machine.writeInput(3, 1 << 56 | 0x400)
    set(3, true)
    // It waits for its start.
    #expect(machine.processor(0).pending.isEmpty && machine.processor(1).pending.isEmpty)
    machine.writeInput(4, 1 << 56 | 0x500)
    set(4, true)
    #expect(machine.event(1) == .initialize)
    machine.writeInput(6, 1 << 56 | 0x601)
    set(6, true)
    #expect(machine.event(1) == .startup(vector: 1))
    set(3, false)
    set(3, true)
    #expect(machine.processor(0).pending.isEmpty && machine.processor(1).pending == .nonMaskable)
    machine.write(0xd0, 0x8000_0000)
    machine.writeInput(5, 0x80 << 56 | 0x971)
    set(5, true)
    #expect(machine.vector() == 0x71)
  }
}
