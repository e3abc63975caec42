import Testing

@testable import TrivisorXenDomain

/// Times are nanoseconds; a tick of the chip takes about 838.
@Suite("the timer channel that Xen gives domains")
struct SpeakerTimerTests {
  private let counter = SpeakerTimer.counterPort
  private let command = SpeakerTimer.commandPort
  private let gate = SpeakerTimer.gatePort

  /// Channel 2, both bytes, mode 0.
  private func started(_ count: UInt16, at time: UInt64) -> SpeakerTimer {
    var timer = SpeakerTimer()
    timer.write(gate, 1, at: time)
    timer.write(command, 0xb0, at: time)
    timer.write(counter, UInt8(truncatingIfNeeded: count), at: time)
    timer.write(counter, UInt8(truncatingIfNeeded: count >> 8), at: time)
    return timer
  }

  @Test("counts down by 1,193,182 a second, low byte first")
  func counts() {
    var timer = started(0xffff, at: 1_000)
    // A thousand ticks later.
    let later: UInt64 = 1_000 + 1_000 * 1_000_000_000 / 1_193_182 + 1
    let (low, high) = (timer.read(counter, at: later), timer.read(counter, at: later))
    #expect(UInt16(high) << 8 | UInt16(low) == 0xffff - 1_000)
  }

  @Test("a latched count stays until both bytes are read")
  func latch() {
    var timer = started(0x8000, at: 0)
    timer.write(command, 0x80, at: 0)
    let late: UInt64 = 10_000_000
    #expect(timer.read(counter, at: late) == 0)
    #expect(timer.read(counter, at: late) == 0x80)
    #expect(timer.read(counter, at: late) != 0 || timer.read(counter, at: late) != 0x80)
  }

  @Test("the output rises when the count has run out")
  func output() {
    var timer = started(1_193, at: 0)
    #expect(timer.read(gate, at: 900_000) & 0x20 == 0)
    #expect(timer.read(gate, at: 1_100_000) & 0x21 == 0x21)
  }

  @Test("a count of 0 is 65,536; other channels and ports are not there")
  func edges() {
    var timer = started(0, at: 0)
    #expect(timer.read(gate, at: 54_000_000) & 0x20 == 0)
    #expect(timer.read(gate, at: 56_000_000) & 0x20 != 0)
    timer.write(command, 0x34, at: 0)
    #expect(timer.read(command, at: 0) == 0xff)
    #expect(!SpeakerTimer.has(0x40) && !SpeakerTimer.has(0x60))
  }
}
