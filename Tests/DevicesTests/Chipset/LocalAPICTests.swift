@testable import TrivisorDevices
import Testing
import TrivisorVMM

@Suite("Local APIC")
struct LocalAPICTests {
  private let machine: ChipsetMachine
  init() throws { machine = try ChipsetMachine(processors: 3) }

  private func send(_ vector: UInt8, to index: UInt8 = 0) { machine.chipset.deliver(.fixed(vector: vector, to: index)) }

  @Test("registers after RESET")
  func reset() {
    #expect(machine.read(0x20, 2) == 2 << 24)
    #expect(machine.read(0x30) == 0x0005_0014)
    #expect(machine.read(0xf0) == 0xff)
    #expect(machine.read(0xe0) == 0xffff_ffff)
    #expect(machine.read(0x320) == 0x1_0000)
    // The 8259s of a PC are connected to the bootstrap processor.
    #expect(machine.read(0x350) == 0x700)
    #expect(machine.read(0x350, 1) == 0x1_0000)
    #expect(machine.processor(0).base == 0xfee0_0900)
    #expect(machine.processor(1).base == 0xfee0_0800)
  }

  @Test("a higher priority class interrupts a lower one, and only that")
  func priorities() {
    machine.enable()
    send(0x51)
    #expect(machine.vector() == 0x51)
    #expect(machine.read(0xa0) == 0x50)
    send(0x5f)
    #expect(machine.vector() == nil)
    send(0x61)
    #expect(machine.vector() == 0x61)
    machine.endInterrupt()
    #expect(machine.vector() == nil)
    machine.endInterrupt()
    #expect(machine.vector() == 0x5f)
    machine.endInterrupt()
    #expect(machine.read(0xa0) == 0)
  }

  @Test("IRR, ISR and TMR show what is where")
  func sets() {
    machine.enable()
    machine.chipset.deliver(InterruptMessage(address: 0xfee0_0000, data: 0xc071))
    send(0x92)
    #expect(machine.read(0x230) == 1 << 17 && machine.read(0x240) == 1 << 18)
    #expect(machine.read(0x1b0) == 1 << 17 && machine.read(0x1c0) == 0)
    #expect(machine.vector() == 0x92)
    #expect(machine.read(0x240) == 0 && machine.read(0x140) == 1 << 18)
  }

  @Test("the task priority keeps interrupts back; CR8 is its upper half")
  func taskPriority() {
    machine.enable()
    machine.processor().taskPriority = 5
    #expect(machine.read(0x80) == 0x50)
    send(0x51)
    #expect(machine.processor().pending.isEmpty)
    send(0x61)
    #expect(machine.processor().pending == .interrupt)
    machine.write(0x80, 0x6f)
    #expect(machine.processor().pending.isEmpty && machine.processor().taskPriority == 6)
    machine.write(0x80, 0)
    #expect(machine.vector() == 0x61)
  }

  @Test("what has arrived is taken though software disables the chip; what comes then is lost")
  func disabledMeanwhile() {
    machine.enable()
    send(0x51)
    machine.write(0xf0, 0xff)
    send(0x61)
    #expect(machine.vector() == 0x51)
    machine.endInterrupt()
    #expect(machine.vector() == nil)
  }

  @Test("two NMIs are two if none is served, and one waits behind that which is")
  func nonMaskable() {
    for _ in 0..<3 { machine.chipset.deliver(.nonMaskable(to: 0)) }
    #expect(machine.event() == .nonMaskable)
    machine.processor().setServesNonMaskable(true)
    for _ in 0..<3 { machine.chipset.deliver(.nonMaskable(to: 0)) }
    #expect(machine.processor().takeEvent(acceptsInterrupts: true, acceptsNonMaskable: false) == nil)
    machine.processor().setServesNonMaskable(false)
    #expect(machine.event() == .nonMaskable)
    #expect(machine.event() == nil)
  }

  @Test("switched off and on again, it has all entries masked")
  func baseAgain() {
    #expect(machine.processor().setBase(0xfee0_0100) && machine.processor().setBase(0xfee0_0900))
    #expect(machine.read(0x350) == 0x1_0000)
  }

  @Test("one that is disabled by software takes NMI but no interrupt")
  func disabled() {
    send(0x51)
    #expect(machine.processor().pending.isEmpty)
    machine.chipset.deliver(.nonMaskable(to: 0))
    #expect(machine.processor().takeEvent(acceptsInterrupts: true, acceptsNonMaskable: false) == nil)
    #expect(machine.event() == .nonMaskable)
    machine.write(0x320, 0x40)
    #expect(machine.read(0x320) == 0x1_0040)
  }

  @Test("vectors below 16 are an error that the status register tells after a write")
  func illegalVectors() {
    machine.enable()
    machine.write(0x370, 0xfe)
    send(15)
    #expect(machine.vector() == 0xfe)
    #expect(machine.read(0x280) == 0)
    machine.write(0x280, 0)
    #expect(machine.read(0x280) == 1 << 6)
    machine.write(0x300, 0x0004_0003)
    machine.write(0x280, 0)
    #expect(machine.read(0x280) == 1 << 5 | 1 << 6)
    machine.write(0x280, 0)
    #expect(machine.read(0x280) == 0)
  }

  // MARK: Commands

  @Test("a register that does not exist is an error in the page, and none by x2APIC's MSRs, which fault")
  func illegalRegisters() {
    machine.enable()
    machine.write(0x3f0, 0)
    machine.write(0x280, 0)
    #expect(machine.read(0x280) == 1 << 7)
    _ = machine.read(0x2f0)
    machine.write(0x280, 0)
    #expect(machine.read(0x280) == 1 << 7)
    let processor = machine.processor()
    #expect(processor.setBase(0xfee0_0d00))
    #expect(!processor.writeModelSpecific(0x87f, 0))
    #expect(processor.writeModelSpecific(0x828, 0))
    #expect(processor.readModelSpecific(0x828) == 0)
  }

  @Test("a command reaches whom its destination names")
  func destinations() {
    for index in 0..<3 { machine.enable(index) }
    startAll()
    machine.write(0x310, 2 << 24)
    machine.write(0x300, 0x41)
    #expect((0..<3).map { machine.vector($0) } == [nil, nil, 0x41])
    machine.write(0x310, 0xff << 24)
    machine.write(0x300, 0x51)
    #expect((0..<3).map { machine.vector($0) } == [0x51, 0x51, 0x51])
    for (shorthand, expected) in [
      (1 as UInt32, [0x61, nil, nil] as [UInt8?]), (2, [0x71, 0x71, 0x71]), (3, [nil, 0x81, 0x81]),
    ] {
      machine.write(0x300, shorthand << 18 | 0x51 + shorthand * 16)
      #expect((0..<3).map { machine.vector($0) } == expected)
    }
  }

  @Test("logical destinations, flat and in clusters")
  func logical() {
    for index in 0..<3 { machine.enable(index) }
    startAll()
    for index in 0..<3 { machine.write(0xd0, 1 << UInt32(24 + index), index) }
    machine.write(0x310, 0x06 << 24)
    machine.write(0x300, 0x841)
    #expect((0..<3).map { machine.vector($0) } == [nil, 0x41, 0x41])
    for index in 0..<3 {
      machine.write(0xe0, 0x0fff_ffff, index)
      machine.write(0xd0, UInt32(index == 0 ? 0x11 : 0x20 | index) << 24, index)
    }
    machine.write(0x310, 0x21 << 24)
    machine.write(0x300, 0x851)
    #expect((0..<3).map { machine.vector($0) } == [nil, 0x51, nil])
  }

  @Test("the lowest priority goes to one processor, the least busy")
  func lowestPriority() {
    for index in 0..<3 { machine.enable(index) }
    startAll()
    machine.write(0x80, 0x40, 0)
    machine.write(0x80, 0x20, 1)
    machine.write(0x80, 0x30, 2)
    machine.write(0x310, 0xff << 24)
    machine.write(0x300, 0x151)
    #expect((0..<3).map { machine.vector($0) } == [nil, 0x51, nil])
  }

  @Test("INIT and start-up begin a processor; start-up alone and a second one do nothing")
  func startup() {
    #expect(machine.event(1) == nil)
    machine.write(0x310, 1 << 24)
    machine.write(0x300, 0x0000_4500)
    #expect(machine.processor(1).pending == .initialize)
    #expect(machine.event(1) == .initialize)
    machine.write(0x300, 0x0000_8500)
    #expect(machine.processor(1).pending.isEmpty)
    machine.write(0x300, 0x0000_4699)
    machine.write(0x300, 0x0000_4699)
    #expect(machine.event(1) == .startup(vector: 0x99))
    machine.write(0x300, 0x0000_4699)
    #expect(machine.event(1) == nil)
    // The bootstrap processor does not wait.
    machine.enable()
    machine.write(0x310, 0)
    machine.write(0x300, 0x0000_4500)
    #expect(machine.event() == .initialize)
    #expect(machine.read(0xf0) == 0xff)
    machine.write(0x300, 0x0000_4699)
    #expect(machine.event() == nil)
  }

  private func startAll() {
    machine.write(0x300, 0x000c_4500)
    machine.write(0x300, 0x000c_4601)
    for index in 1..<3 {
      #expect(machine.event(index) == .initialize)
      #expect(machine.event(index) == .startup(vector: 1))
      machine.enable(index)
    }
  }

  // MARK: x2APIC

  @Test("as MSRs: what is reserved or absent is refused")
  func extended() {
    let processor = machine.processor(2)
    #expect(processor.readModelSpecific(0x802) == nil)
    #expect(!processor.setBase(0xfee0_0400))
    #expect(processor.setBase(0xfee0_0c00))
    #expect(processor.page == nil)
    #expect(!processor.setBase(0xfee0_0800))
    #expect(processor.readModelSpecific(0x802) == 2)
    #expect(processor.readModelSpecific(0x80d) == 4)
    for absent: UInt32 in [0x800, 0x80e, 0x80b, 0x831, 0x83f, 0x840, 0x8ff] {
      #expect(processor.readModelSpecific(absent) == nil)
    }
    for (register, value) in [
      (0x802 as UInt32, 0 as UInt64), (0x80d, 0), (0x80b, 1), (0x80f, 0x1_01ff), (0x808, 0x100), (0x831, 0),
      (0x80f, 1 << 32 | 0x1ff), (0x83e, 4),
    ] {
      #expect(!processor.writeModelSpecific(register, value))
    }
    #expect(processor.writeModelSpecific(0x80f, 0x1ff))
    #expect(processor.setBase(0xfee0_0000))
    #expect(!processor.setBase(0xfee0_0c00))
    #expect(processor.setBase(0xfee0_0800))
    // Disabling forgets.
    #expect(machine.read(0xf0, 2) == 0xff)
  }

  @Test("64-bit commands, logical and physical, and the one to oneself")
  func extendedCommands() {
    startAll()
    for index in 0..<3 {
      #expect(machine.processor(index).setBase(0xfee0_0c00 | (index == 0 ? 0x100 : 0)))
      #expect(machine.processor(index).writeModelSpecific(0x80f, 0x1ff))
    }
    let processor = machine.processor()
    #expect(processor.writeModelSpecific(0x830, 2 << 32 | 0x41))
    #expect(processor.readModelSpecific(0x830) == 2 << 32 | 0x41)
    #expect((0..<3).map { machine.vector($0) } == [nil, nil, 0x41])
    #expect(processor.writeModelSpecific(0x830, 0x0000_0003 << 32 | 0x851))
    #expect((0..<3).map { machine.vector($0) } == [0x51, 0x51, nil])
    #expect(processor.writeModelSpecific(0x83f, 0x61))
    #expect(machine.vector() == 0x61)
    #expect(processor.writeModelSpecific(0x830, 0xffff_ffff << 32 | 0x71))
    #expect((0..<3).map { machine.vector($0) } == [0x71, 0x71, 0x71])
  }

  // MARK: Timer

  @Test("one shot: counts down by the divisor, interrupts once")
  func oneShot() {
    machine.enable()
    machine.write(0x3e0, 0x3)  // by 16
    machine.write(0x320, 0x31)
    machine.write(0x380, 1000)
    #expect(machine.processor().deadline == machine.clock.nanoseconds + 16_000)
    machine.clock.advance(nanoseconds: 1600)
    #expect(machine.read(0x390) == 900)
    machine.clock.advance(nanoseconds: 14_400)
    machine.processor().advance()
    #expect(machine.vector() == 0x31)
    #expect(machine.read(0x390) == 0 && machine.read(0x380) == 1000)
    #expect(machine.processor().deadline == .max)
    machine.endInterrupt()
    machine.clock.advance(nanoseconds: 1 << 40)
    machine.processor().advance()
    #expect(machine.vector() == nil)
  }

  @Test("periodic: once a period, and once for those that nobody saw")
  func periodic() {
    machine.enable()
    machine.write(0x3e0, 0xb)
    machine.write(0x320, 0x2_0031)
    machine.write(0x380, 1_000_000)
    let start = machine.clock.nanoseconds
    for round in 1...3 as ClosedRange<UInt64> {
      #expect(machine.processor().deadline == start + round * 1_000_000)
      machine.clock.advance(nanoseconds: 1_000_000)
      machine.processor().advance()
      #expect(machine.vector() == 0x31)
      machine.endInterrupt()
    }
    machine.clock.advance(nanoseconds: 5_500_000)
    machine.processor().advance()
    #expect(machine.vector() == 0x31)
    machine.endInterrupt()
    #expect(machine.vector() == nil)
    #expect(machine.processor().deadline == start + 9_000_000)
    #expect(machine.read(0x390) == 500_000)
  }

  @Test("deadline: at a value of the guest's counter, after which the register is zero")
  func deadline() {
    machine.enable()
    let processor = machine.processor()
    processor.setTimestampOffset(5000)
    #expect(processor.writeModelSpecific(0x6e0, 1) && processor.readModelSpecific(0x6e0) == 0)
    machine.write(0x320, 0x4_0031)
    let now = machine.clock.timestamp + 5000
    #expect(processor.writeModelSpecific(0x6e0, now + 20_000))
    #expect((machine.clock.nanoseconds + 10_000...machine.clock.nanoseconds + 10_001).contains(processor.deadline))
    machine.clock.advance(nanoseconds: 9_999)
    processor.advance()
    #expect(machine.vector() == nil && processor.readModelSpecific(0x6e0) == now + 20_000)
    machine.clock.advance(nanoseconds: 1)
    processor.advance()
    #expect(machine.vector() == 0x31 && processor.readModelSpecific(0x6e0) == 0)
    machine.endInterrupt()
    // One that has passed interrupts at once; none at all disarms.
    #expect(processor.writeModelSpecific(0x6e0, 1))
    #expect(machine.vector() == 0x31)
    machine.endInterrupt()
    #expect(processor.writeModelSpecific(0x6e0, .max))
    #expect(processor.deadline < .max)
    #expect(processor.writeModelSpecific(0x6e0, 0))
    #expect(processor.deadline == .max)
    #expect(machine.read(0x390) == 0)
  }

  @Test("masked, it runs out without an interrupt; between the modes it stops")
  func masked() {
    machine.enable()
    machine.write(0x3e0, 0xb)
    machine.write(0x320, 0x1_0031)
    machine.write(0x380, 1000)
    #expect(machine.processor().deadline == .max)
    machine.clock.advance(nanoseconds: 2000)
    machine.processor().advance()
    machine.write(0x320, 0x31)
    #expect(machine.vector() == nil)
    machine.write(0x380, 1000)
    machine.write(0x320, 0x4_0031)
    machine.write(0x320, 0x31)
    #expect(machine.processor().deadline == .max && machine.read(0x390) == 0)
  }

  @Test("whoever waits is woken for what is new, and not for what is old")
  func waking() {
    machine.enable()
    let wakes = WakeCounter()
    machine.processor().connect { wakes.add() }
    send(0x51)
    #expect(wakes.count == 1)
    send(0x61)
    #expect(wakes.count == 1)
    machine.chipset.deliver(.nonMaskable(to: 0))
    #expect(wakes.count == 2)
    machine.write(0x320, 0x31)
    machine.write(0x380, 1000)
    #expect(wakes.count == 3 && machine.processor().pending.contains(.deadline))
    machine.processor().acceptDeadline()
    #expect(!machine.processor().pending.contains(.deadline))
    machine.write(0x380, 2000)
    #expect(wakes.count == 3)
  }
}
