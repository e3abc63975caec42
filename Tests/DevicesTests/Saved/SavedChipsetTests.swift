@testable import TrivisorDevices
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

/// The chips with three processors, and what guest and devices do to them.
private struct Chips {
  let machine: ChipsetMachine

  init() throws { machine = try ChipsetMachine(processors: 3) }

  private static let ports: [UInt16] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61]

  /// What it gave, without what is the host's time.
  func act(_ bits: UInt64) -> String {
    let processor = machine.processor(Int(bits >> 60) % 3)
    let value = bits >> (bits >> 50 & 63)
    let port = Self.ports[Int(bits >> 8) % 11]
    switch bits & 15 {
    case 0: return "\(machine.bus.readPort(port, width: .byte) & (port == 0x61 ? 0xef : 0xff))"
    case 1: _ = machine.bus.writePort(port, UInt32(truncatingIfNeeded: bits >> 16 & 0xff), width: .byte)
    case 2: machine.initializeLegacyController(masterEnd: UInt8(bits >> 20 & 2 | 1))
    case 3: machine.writeInputRegister(UInt32(bits >> 16 & 0x3f), UInt32(truncatingIfNeeded: value) & 0x1_ffff)
    case 4: return "\(machine.readInputRegister(UInt32(bits >> 16 & 0x3f)))"
    case 5: processor.writePage(value, 0xf0, width: .doubleword)
    case 6: processor.writePage(value, bits >> 8 & 0xff0, width: .doubleword)
    case 7: return "\(processor.readPage(bits >> 8 & 0xff0, width: .doubleword))"
    case 8: return "\(String(describing: processor.readModelSpecific(0x800 + UInt32(bits >> 8 & 0xff))))"
    case 9:
      let number: UInt32 = bits & 0x700 == 0 ? 0x6e0 : 0x800 + UInt32(bits >> 16 & 0xff)
      return "\(processor.writeModelSpecific(number, value))"
    case 10: return "\(bits & 0xf00 == 0 && processor.setBase(0xfee0_0000 | (bits >> 12 & 3) << 10))"
    case 11: machine.chipset.setLine(Int(bits >> 8) % 24, asserted: bits >> 20 & 1 != 0)
    case 12:
      machine.chipset.deliver(
        InterruptMessage(address: 0xfee0_0000 | bits >> 8 & 0xf_ffff, data: UInt32(truncatingIfNeeded: value)))
    default:
      machine.clock.advance(nanoseconds: bits >> 40)
      processor.advance()
      processor.acceptDeadline()
      let event = processor.takeEvent(acceptsInterrupts: bits & 16 != 0, acceptsNonMaskable: bits & 32 != 0)
      return "\(String(describing: event))"
    }
    return ""
  }

  /// What waits and how soon, for each processor.
  var waiting: [String] {
    (0..<3).map { index in
      let processor = machine.processor(index)
      let deadline = processor.deadline
      let now = machine.clock.nanoseconds
      // How long it has been due makes no difference.
      let left = deadline == .max ? "never" : deadline <= now ? "due" : "\(deadline - now)"
      return "\(processor.pending.subtracting(.deadline).rawValue) \(left)"
    }
  }
}

@Suite("Saved interrupt chips")
struct SavedChipsetTests {
  @Test(
    "chips that were saved and restored in the middle go on like those before", arguments: 1...30 as ClosedRange<UInt64>
  )
  func roundTrip(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let (first, second) = (try Chips(), try Chips())
    for _ in 0..<2000 { _ = first.act(generator.next()) }
    // Another host, whose clock has begun at another time.
    second.machine.clock.advance(nanoseconds: generator.next() >> 30)
    try second.machine.chipset.restore(throughJSON(first.machine.chipset.save()))
    for index in 0..<3 {
      second.machine.processor(index).setTimestampOffset(
        first.machine.clock.timestamp &- second.machine.clock.timestamp)
    }
    #expect(second.machine.chipset.save() == first.machine.chipset.save())
    for step in 0..<2000 {
      let bits = generator.next()
      let (one, other) = (first.act(bits), second.act(bits))
      #expect(one == other, "step \(step): \(hexadecimal(bits))")
      #expect(first.waiting == second.waiting, "step \(step): \(hexadecimal(bits))")
      if one != other || first.waiting != second.waiting { break }
    }
  }

  @Test("nothing in a spoiled state makes the chips trap", arguments: 1...8 as ClosedRange<UInt64>)
  func hostile(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let first = try Chips()
    var (refusals, acceptances) = (0, 0)
    for _ in 0..<150 {
      for _ in 0..<50 { _ = first.act(generator.next()) }
      guard let saved = try spoiled(first.machine.chipset.save(), using: &generator) else { continue }
      let second = try Chips()
      let before = second.machine.chipset.save()
      do throws(RestoreFailure) {
        try second.machine.chipset.restore(saved)
        acceptances += 1
      } catch {
        refusals += 1
        #expect(second.machine.chipset.save() == before)
      }
      for _ in 0..<100 { _ = second.act(generator.next()) }
    }
    #expect(refusals > 10)
    #expect(acceptances > 10)
  }

  @Test("the lower half of the task priority, which CR8 does not show, outlives a processor's state")
  func taskPriority() throws {
    let machine = try ChipsetMachine()
    machine.enable()
    machine.write(0x80, 0x57)
    machine.processor().restoreTaskPriority(5)
    #expect(machine.read(0x80) == 0x57)
    machine.processor().restoreTaskPriority(6)
    #expect(machine.read(0x80) == 0x60)
  }

  @Test("a counter that has run for days can be restored on a host that has just begun")
  func oldCounter() throws {
    let (first, second) = (try ChipsetMachine(), try ChipsetMachine())
    // Counter 2: mode 0, both bytes, the gate open.
    first.bus.outb(0x61, 1)
    first.bus.outb(0x43, 0xb0)
    first.bus.outb(0x42, 0x34)
    first.bus.outb(0x42, 0x12)
    first.clock.advance(nanoseconds: 5 * 86400 * 1_000_000_000)
    try second.chipset.restore(throughJSON(first.chipset.save()))
    for machine in [first, second] { machine.bus.outb(0x43, 0x80) }
    #expect(first.bus.inb(0x42) == second.bus.inb(0x42))
    #expect(first.bus.inb(0x42) == second.bus.inb(0x42))
    #expect(second.bus.inb(0x61) & 0x21 == 0x21)
  }
}
