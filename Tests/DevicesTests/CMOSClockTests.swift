@testable import TrivisorDevices
import Glibc
import Synchronization
import Testing
import TrivisorVMM

/// A clock that goes when told to.
private final class ManualTime: Sendable {
  private let nanoseconds: Atomic<Int64>
  init(_ seconds: Int64) { nanoseconds = Atomic(seconds * 1_000_000_000) }
  func advance(_ seconds: Double) { nanoseconds.add(Int64(seconds * 1e9), ordering: .relaxed) }
  var now: CMOSClock.Instant {
    let value = nanoseconds.load(ordering: .relaxed)
    return CMOSClock.Instant(seconds: value / 1_000_000_000, nanoseconds: value % 1_000_000_000)
  }
}

@Suite("CMOS clock")
struct CMOSClockTests {
  /// 2024-02-29 (a Thursday) 23:59:58 UTC.
  private let time = ManualTime(1_709_251_198)
  private let bus: Bus
  private let clock: CMOSClock
  private let lines: RecordingController

  init() throws {
    let time = time
    let (line, controller) = recordedLine(8)
    lines = controller
    clock = CMOSClock(memoryBelow4GiB: 3 << 30, memoryAbove4GiB: 5 << 30, interrupt: line, now: { time.now })
    bus = try Bus(ports: [.init("CMOS", base: 0x70, count: CMOSClock.portCount, device: clock)])
  }

  private func read(_ register: UInt8) -> UInt8 {
    bus.outb(0x70, register | 0x80)
    return bus.inb(0x71)
  }

  private func write(_ register: UInt8, _ value: UInt8) {
    bus.outb(0x70, register)
    bus.outb(0x71, value)
  }

  /// A little-endian number of several registers.
  private func number(_ register: UInt8, bytes: UInt8) -> UInt32 {
    (0..<bytes).reversed().reduce(0) { $0 << 8 | UInt32(read(register + $1)) }
  }

  /// Century, year, month, day, day of the week, hour, minute, second.
  private var all: [UInt8] { [0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00].map { read($0) } }

  @Test("the time reads in BCD and 24 hours, and goes on over a leap day's midnight")
  func bcd() {
    #expect(all == [0x20, 0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58])
    time.advance(2)
    #expect(all == [0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00])
  }

  @Test(
    "binary, and twelve hours with the afternoon's bit",
    arguments: [(0, 0x12), (11, 0x11), (12, 0x92), (13, 0x81)] as [(Int, UInt8)])
  func formats(hour: Int, encoded: UInt8) {
    write(0x0b, 0x06)
    #expect(all == [20, 24, 2, 29, 5, 23, 59, 58])
    write(0x0b, 0x02)
    write(0x04, UInt8(hour / 10 * 16 + hour % 10))
    write(0x0b, 0x00)
    #expect(read(0x04) == encoded)
    write(0x04, encoded)
    write(0x0b, 0x06)
    #expect(read(0x04) == UInt8(hour))
  }

  @Test("as a kernel sets it: stand still, write, go on half a second before the next update")
  func setting() {
    write(0x0b, 0x82)
    write(0x0a, 0x76)
    time.advance(10)
    #expect(read(0x00) == 0x58)
    for (register, value): (UInt8, UInt8) in [
      (0x09, 0x99), (0x08, 0x12), (0x07, 0x31), (0x04, 0x23), (0x02, 0x59), (0x00, 0x59), (0x32, 0x19),
    ] {
      write(register, value)
    }
    time.advance(5)
    #expect(read(0x00) == 0x59)
    #expect(read(0x0a) == 0x76)
    write(0x0b, 0x02)
    write(0x0a, 0x26)
    time.advance(0.4)
    #expect(all.prefix(4) == [0x19, 0x99, 0x12, 0x31])
    #expect(read(0x00) == 0x59)
    time.advance(0.2)
    #expect(all.prefix(4) == [0x20, 0x00, 0x01, 0x01])
    #expect(read(0x00) == 0x00)
  }

  @Test("update in progress is set in the last quarter of a millisecond only, and not while the clock stands")
  func updateInProgress() {
    time.advance(0.9997)
    #expect(read(0x0a) == 0x26)
    time.advance(0.0001)
    #expect(read(0x0a) == 0xa6)
    #expect(read(0x00) == 0x58)
    write(0x0b, 0x82)
    #expect(read(0x0a) == 0x26)
    write(0x0b, 0x02)
    time.advance(0.0002)
    #expect(read(0x0a) == 0x26)
    #expect(read(0x00) == 0x59)
  }

  @Test("status D tells of a good battery, and the index can't be read")
  func status() {
    write(0x0d, 0)
    #expect(read(0x0d) == 0x80)
    #expect(bus.inb(0x70) == 0xff)
  }

  @Test("an ended update is told once, and interrupts if that is enabled")
  func updateEnded() {
    #expect(read(0x0c) & 0x10 == 0)
    time.advance(1)
    #expect(read(0x0c) & 0x90 == 0x10)
    #expect(read(0x0c) & 0x10 == 0)
    write(0x0b, 0x12)
    time.advance(0.5)
    clock.look()
    #expect(!lines.level(8))
    time.advance(0.5)
    clock.look()
    #expect(lines.level(8))
    #expect(read(0x0c) & 0x90 == 0x90)
    #expect(!lines.level(8))
    // SET takes the enable bit away, and no update ends while the clock stands.
    write(0x0b, 0x92)
    #expect(read(0x0b) == 0x82)
    time.advance(3)
    #expect(read(0x0c) & 0x10 == 0)
  }

  @Test("the alarm rings at its time of day, with bytes that agree with everything")
  func alarm() {
    // Every minute at 5 seconds; it is 23:59:58.
    for (register, value): (UInt8, UInt8) in [(0x01, 0x05), (0x03, 0xff), (0x05, 0xc0)] { write(register, value) }
    write(0x0b, 0x22)
    time.advance(6)
    clock.look()
    #expect(!lines.level(8))
    time.advance(1)
    clock.look()
    #expect(lines.level(8))
    #expect(read(0x0c) & 0xa0 == 0xa0)
    time.advance(59)
    #expect(read(0x0c) & 0x20 == 0)
    time.advance(1)
    #expect(read(0x0c) & 0x20 == 0x20)
    // Once a day, at an hour in the afternoon's notation; now it is 00:01:05.
    write(0x0b, 0x20)
    for (register, value): (UInt8, UInt8) in [(0x01, 0x00), (0x03, 0x30), (0x05, 0x81)] { write(register, value) }
    time.advance(13 * 3600 + 28 * 60 + 54)
    #expect(read(0x0c) & 0x20 == 0)
    time.advance(1)
    #expect(read(0x0c) & 0x20 == 0x20)
    // A time that does not exist never comes.
    write(0x05, 0x77)
    time.advance(100_000)
    #expect(read(0x0c) & 0x20 == 0)
  }

  @Test(
    "the periodic event comes at the chosen rate", arguments: [(6, 1024.0), (1, 256.0), (15, 2.0)] as [(UInt8, Double)])
  func periodic(rate: UInt8, frequency: Double) {
    write(0x0a, 0x20 | rate)
    write(0x0b, 0x42)
    _ = read(0x0c)
    time.advance(0.9 / frequency)
    #expect(read(0x0c) == 0)
    time.advance(0.2 / frequency)
    #expect(read(0x0c) & 0xc0 == 0xc0)
    write(0x0a, 0x20)
    time.advance(2)
    #expect(read(0x0c) & 0x40 == 0)
  }

  @Test("the host's timer brings interrupts without anybody looking", .timeLimit(.minutes(15)))
  func hostTimer() throws {
    let (line, lines) = recordedLine(8)
    let clock = CMOSClock(memoryBelow4GiB: 128 << 20, interrupt: line)
    let bus = try Bus(ports: [.init("CMOS", base: 0x70, count: CMOSClock.portCount, device: clock)])
    bus.outb(0x70, 0x0b)
    bus.outb(0x71, 0x42)
    bus.outb(0x70, 0x0c)
    for _ in 0..<20 {
      while !lines.level(8) { usleep(100) }
      #expect(bus.inb(0x71) & 0xc0 == 0xc0)
    }
    // One rise a reading, although the host may be slow.
    #expect(lines.rises(8) >= 20)
  }

  @Test("memory sizes and their checksum are where boot loaders look")
  func memorySizes() {
    #expect(number(0x15, bytes: 2) == 640)
    #expect(number(0x17, bytes: 2) == 0xffff)
    #expect(number(0x34, bytes: 2) == 0xbf00)
    #expect(number(0x5b, bytes: 3) == 0x1_4000)
    let sum = (0x10...0x2d).reduce(UInt16(0)) { $0 &+ UInt16(read($1)) }
    #expect(read(0x2e) == UInt8(sum >> 8))
    #expect(read(0x2f) == UInt8(sum & 0xff))
    write(0x40, 0xa5)
    #expect(read(0x40) == 0xa5)
  }

  @Test("the calendar agrees with the host's for every 12345th hour of seven centuries")
  func calendar() {
    for hours in stride(from: Int64(-1_500_000), to: 5_000_000, by: 12_345) {
      let seconds = hours * 3600 + hours % 3600
      let ours = CalendarTime(secondsSince1970: seconds)
      var instant = time_t(seconds)
      var theirs = tm()
      gmtime_r(&instant, &theirs)
      #expect(ours.year == Int(theirs.tm_year) + 1900)
      #expect(ours.month == Int(theirs.tm_mon) + 1)
      #expect(ours.day == Int(theirs.tm_mday))
      #expect(ours.hour == Int(theirs.tm_hour))
      #expect(ours.minute == Int(theirs.tm_min))
      #expect(ours.second == Int(theirs.tm_sec))
      #expect(ours.dayOfWeek == Int(theirs.tm_wday) + 1)
      #expect(ours.secondsSince1970 == seconds)
    }
  }
}
