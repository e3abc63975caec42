import TrivisorDevices
import Glibc
import Synchronization
import Testing
import TrivisorVMM

/// COM1 on a bus of its own.
private struct Fixture: Sendable {
  let sink = MemorySink()
  let controller: RecordingController
  let port: SerialPort16550
  let bus: Bus

  init() throws {
    let (line, controller) = recordedLine(4)
    self.controller = controller
    port = SerialPort16550(sink: sink, interrupt: line)
    bus = try Bus(ports: [.init("serial", base: 0x3f8, count: SerialPort16550.portCount, device: port)])
  }

  var interrupt: Bool { controller.level(4) }
  func read(_ register: UInt16) -> UInt8 { bus.inb(0x3f8 + register) }
  func write(_ register: UInt16, _ value: UInt8) { bus.outb(0x3f8 + register, value) }

  /// As a driver does: FIFOs on with trigger level 8, OUT2 set, the given interrupts enabled.
  func open(interrupts: UInt8) {
    write(2, 0x87)
    write(4, 0x0b)
    write(1, interrupts)
  }
}

@Suite("16550A")
struct SerialPortTests {
  @Test("what is transmitted reaches the sink in order, and the transmitter is empty at once")
  func output() throws {
    let serial = try Fixture()
    for byte in "hello\n".utf8 {
      #expect(serial.read(5) & 0x60 == 0x60)
      serial.write(0, byte)
    }
    #expect(serial.sink.text == "hello\n")
  }

  @Test("the first output with the transmitter's interrupt enabled is noted, what is polled before is not")
  func firstInterruptDrivenOutput() throws {
    let serial = try Fixture()
    serial.open(interrupts: 0x05)
    serial.write(0, UInt8(ascii: "a"))
    #expect(serial.port.firstInterruptDrivenOutput == nil)
    let before = monotonicNanoseconds()
    serial.write(1, 0x07)
    #expect(serial.port.firstInterruptDrivenOutput == nil)
    serial.write(0, UInt8(ascii: "b"))
    let time = try #require(serial.port.firstInterruptDrivenOutput)
    #expect((before...monotonicNanoseconds()).contains(time))
    serial.write(0, UInt8(ascii: "c"))
    #expect(serial.port.firstInterruptDrivenOutput == time)
  }

  @Test("the divisor hides data and interrupt enable while DLAB is set")
  func divisorLatch() throws {
    let serial = try Fixture()
    serial.write(1, 0x05)
    serial.write(3, 0x83)
    serial.write(0, 0x0c)
    serial.write(1, 0x02)
    #expect(serial.read(0) == 0x0c)
    #expect(serial.read(1) == 0x02)
    serial.write(3, 0x03)
    #expect(serial.read(1) == 0x05)
    #expect(serial.read(3) == 0x03)
    #expect(serial.sink.bytes.isEmpty)
  }

  @Test("Linux' detection finds a 16550A and nothing newer")
  func linuxDetection() throws {
    let serial = try Fixture()
    // autoconfig(): IER holds its low four bits and no more.
    serial.write(1, 0)
    #expect(serial.read(1) & 0x0f == 0)
    serial.write(1, 0x0f)
    #expect(serial.read(1) == 0x0f)
    serial.write(1, 0)
    // Loop-back: RTS and OUT2 come back as CTS and DCD.
    serial.write(4, 0x1a)
    #expect(serial.read(6) & 0xf0 == 0x90)
    serial.write(4, 0)
    // FIFOs: IIR's two high bits.
    serial.write(2, 0x01)
    #expect(serial.read(2) >> 6 == 3)
    // EFR of the 16650 family: would read as zero behind DLAB or LCR = 0xbf.
    serial.write(3, 0x80)
    #expect(serial.read(2) != 0)
    serial.write(3, 0xbf)
    #expect(serial.read(2) != 0)
    // 16750: bit 5 of FCR would show in IIR.
    serial.write(3, 0)
    serial.write(2, 0x21)
    #expect(serial.read(2) >> 5 == 6)
    serial.write(3, 0x80)
    serial.write(2, 0x21)
    #expect(serial.read(2) >> 5 == 6)
    serial.write(3, 0)
    // XScale: the unit enable bit in IER.
    serial.write(1, 0x40)
    #expect(serial.read(1) & 0x40 == 0)
    for value: UInt8 in [0x00, 0x5a, 0xff] {
      serial.write(7, value)
      #expect(serial.read(7) == value)
    }
  }

  @Test("Linux' start-up test of the transmitter interrupt passes: enabling it again raises it again")
  func transmitterInterruptTest() throws {
    let serial = try Fixture()
    serial.write(4, 0x08)
    serial.write(1, 0x02)
    #expect(serial.interrupt)
    #expect(serial.read(2) & 0x0f == 0x02)
    #expect(!serial.interrupt)
    #expect(serial.read(2) & 0x0f == 0x01)
    serial.write(1, 0)
    serial.write(1, 0x02)
    #expect(serial.read(2) & 0x0f == 0x02)
  }

  @Test("reading IIR takes back the transmitter interrupt, writing a byte brings it again")
  func transmitterInterrupt() throws {
    let serial = try Fixture()
    serial.open(interrupts: 0x02)
    #expect(serial.read(2) == 0xc2)
    #expect(serial.read(2) == 0xc1)
    for byte: UInt8 in 0x30..<0x40 { serial.write(0, byte) }
    #expect(serial.interrupt)
    #expect(serial.controller.rises(4) == 2)
    #expect(serial.read(2) == 0xc2)
    #expect(!serial.interrupt)
    #expect(serial.sink.text == "0123456789:;<=>?")
  }

  @Test("interrupts are told in order of priority: line status, data, transmitter, modem")
  func priorities() throws {
    let serial = try Fixture()
    serial.write(2, 0x01)
    serial.write(4, 0x18)
    serial.write(1, 0x0f)
    // Seventeen bytes around the loop: one too many.
    for byte: UInt8 in 0..<17 { serial.write(0, byte) }
    serial.write(4, 0x1a)
    #expect(serial.read(2) == 0xc6)
    #expect(serial.read(5) & 0x03 == 0x03)
    #expect(serial.read(2) == 0xc4)
    for byte: UInt8 in 0..<16 { #expect(serial.read(0) == byte) }
    #expect(serial.read(2) == 0xc2)
    #expect(serial.read(2) == 0xc0)
    #expect(serial.interrupt)
    #expect(serial.read(6) & 0x0f != 0)
    #expect(serial.read(2) == 0xc1)
    #expect(!serial.interrupt)
  }

  @Test("below the trigger level the interrupt says time-out, from it on data available")
  func triggerLevel() throws {
    let serial = try Fixture()
    serial.open(interrupts: 0x01)
    #expect(serial.port.receive(Array(repeating: 0x61, count: 7)) == 7)
    #expect(serial.read(2) == 0xcc)
    #expect(serial.port.receive([0x62]) == 1)
    #expect(serial.read(2) == 0xc4)
  }

  @Test("without OUT2 the line stays low whatever is pending")
  func interruptGate() throws {
    let serial = try Fixture()
    serial.open(interrupts: 0x01)
    serial.write(4, 0x03)
    #expect(serial.port.receive([0x61]) == 1)
    #expect(!serial.interrupt)
    serial.write(4, 0x0b)
    #expect(serial.interrupt)
    serial.write(4, 0x03)
    #expect(!serial.interrupt)
  }

  @Test("input beyond the FIFO is refused, and the host is called when it is empty again")
  func flowControl() throws {
    let serial = try Fixture()
    let counter = Counter()
    serial.port.whenRoomForInput { counter.increment() }
    serial.open(interrupts: 0x01)
    #expect(serial.port.receive(Array(0..<40)) == 16)
    #expect(serial.port.receive([1]) == 0)
    for expected: UInt8 in 0..<16 {
      #expect(counter.value == 0)
      #expect(serial.read(5) & 0x01 == 0x01)
      #expect(serial.read(0) == expected)
    }
    #expect(counter.value == 1)
    #expect(serial.read(5) & 0x03 == 0)
    #expect(serial.port.receive(Array(16..<24)) == 8)
    #expect(serial.read(0) == 16)
    #expect(counter.value == 1)
  }

  @Test("input waits with the host until a driver or a polling guest wants it")
  func inputBeforeListening() throws {
    let serial = try Fixture()
    let counter = Counter()
    serial.port.whenRoomForInput { counter.increment() }
    #expect(!serial.port.isListening)
    #expect(serial.port.receive([0x61, 0x62]) == 0)
    for byte in "console output polls the status once a byte".utf8 {
      _ = serial.read(5)
      serial.write(0, byte)
    }
    #expect(!serial.port.isListening)
    for _ in 0..<8 { #expect(serial.read(5) & 0x01 == 0) }
    #expect(counter.value == 1)
    #expect(serial.port.isListening)
    #expect(serial.port.receive([0x61, 0x62]) == 1)
    #expect(serial.read(5) & 0x01 == 0x01)
    #expect(serial.read(0) == 0x61)
    #expect(counter.value == 2)
    // A driver that takes over resets the FIFO; from then on only its interrupt counts.
    serial.write(2, 0x07)
    #expect(serial.port.receive([0x63]) == 0)
    serial.write(1, 0x01)
    #expect(counter.value == 3)
    #expect(serial.port.receive([0x63]) == 1)
  }

  @Test("as Linux opens the line: what comes between enabling the interrupt and resetting the FIFOs is not lost")
  func inputWhileOpening() throws {
    let serial = try Fixture()
    serial.write(4, 0x08)
    serial.write(1, 0x05)
    #expect(serial.port.receive([0x61, 0x62, 0x63]) == 1)
    serial.write(2, 0x01)
    #expect(serial.read(5) & 0x01 == 0x01)
    serial.write(2, 0x81)
    serial.write(2, 0x83)
    #expect(serial.interrupt)
    #expect(serial.port.receive([0x62]) == 1)
    // The line is closed and opened again.
    serial.write(1, 0)
    serial.write(2, 0x07)
    serial.write(2, 0)
    #expect(serial.read(5) & 0x01 == 0)
    #expect(serial.read(0) == 0)
    #expect(serial.port.receive([0x63]) == 0)
    serial.write(1, 0x01)
    serial.write(2, 0x01)
    #expect(serial.read(0) == 0x61)
    #expect(serial.read(0) == 0x62)
    #expect(serial.port.receive([0x63]) == 1)
    #expect(serial.read(0) == 0x63)
    #expect(serial.read(5) & 0x01 == 0)
  }

  @Test("looped back, bytes return to the guest and nothing reaches the host or comes from it")
  func loopBack() throws {
    let serial = try Fixture()
    serial.open(interrupts: 0x01)
    serial.write(4, 0x1b)
    #expect(serial.port.receive([0x7f]) == 0)
    serial.write(0, 0x55)
    #expect(serial.read(0) == 0x55)
    #expect(serial.sink.bytes.isEmpty)
  }

  @Test("modem changes are told once, the ring indicator only when it ends")
  func modemStatus() throws {
    let serial = try Fixture()
    #expect(serial.read(6) == 0xb0)
    serial.write(4, 0x10)
    _ = serial.read(6)
    serial.write(4, 0x14)
    #expect(serial.read(6) == 0x40)
    serial.write(4, 0x10)
    #expect(serial.read(6) == 0x04)
    serial.write(4, 0x13)
    #expect(serial.read(6) == 0x33)
    #expect(serial.read(6) == 0x30)
  }

  @Test("wide accesses are split into bytes")
  func wideAccess() throws {
    let serial = try Fixture()
    _ = serial.bus.writePort(0x3ff, 0x1234, width: .word)
    #expect(serial.read(7) == 0x34)
    _ = serial.bus.writePort(0x3fb, 0x0803, width: .word)
    #expect(serial.read(3) == 0x03)
    #expect(serial.read(4) == 0x08)
    #expect(serial.bus.readPort(0x3fb, width: .word) == 0x0803)
  }

  @Test("a processor that transmits, one that reads and a host that types lose nothing", .timeLimit(.minutes(15)))
  func concurrency() throws {
    let serial = try Fixture()
    let length = 20_000
    serial.open(interrupts: 0x01)
    let transmitting = OwnThread {
      for index in 0..<length { serial.write(0, UInt8(truncatingIfNeeded: index)) }
    }
    let typing = OwnThread {
      var next = 0
      while next < length {
        let burst = (next..<min(next + 5, length)).map { UInt8(truncatingIfNeeded: $0) }
        let taken = serial.port.receive(burst)
        next += taken
        if taken == 0 { sched_yield() }
      }
    }
    var received: [UInt8] = []
    while received.count < length {
      if serial.read(5) & 0x01 != 0 { received.append(serial.read(0)) } else { sched_yield() }
    }
    transmitting.join()
    typing.join()
    let expected = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
    #expect(received == expected)
    #expect(serial.sink.bytes == expected)
    #expect(!serial.interrupt)
  }
}

/// Counts calls from any thread.
final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func increment() { count.add(1, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}
