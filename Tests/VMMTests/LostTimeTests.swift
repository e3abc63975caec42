import Testing

@testable import TrivisorVMM

@Suite("time that a processor's thread was kept from running")
struct LostTimeTests {
  private static let second: UInt64 = 1_000_000_000

  @Test("a thread that ran, or whose guest slept, has lost nothing")
  func accounted() {
    var time = LostTime()
    time.enter(now: 5)
    let ran = LostTime.threadTime()
    let afterRunning = time.isLong(now: 5 + 40 * Self.second, threadTime: ran + 40 * Self.second)
    #expect(!afterRunning)
    time.slept(from: 50 * Self.second, to: 80 * Self.second, deadline: .max)
    let afterSleeping = time.isLong(now: 80 * Self.second, threadTime: ran + 50 * Self.second)
    #expect(!afterSleeping)
    time.rested(20 * Self.second)
    let afterRests = time.isLong(now: 100 * Self.second, threadTime: ran + 50 * Self.second)
    #expect(!afterRests)
  }

  @Test("what is neither is lost, and so is what a sleep takes beyond its deadline; it is told once")
  func lost() {
    var time = LostTime()
    time.enter(now: 1)
    let ran = LostTime.threadTime()
    let afterGap = time.isLong(now: 33 * Self.second, threadTime: ran + Self.second)
    #expect(afterGap)
    let behindIt = time.isLong(now: 34 * Self.second, threadTime: ran + 2 * Self.second)
    #expect(!behindIt)
    time.slept(from: 34 * Self.second, to: 66 * Self.second, deadline: 35 * Self.second)
    let afterLateSleep = time.isLong(now: 66 * Self.second, threadTime: ran + 2 * Self.second)
    #expect(afterLateSleep)
    let atOnce = time.isLong(now: 66 * Self.second + 10)
    #expect(!atOnce)
  }
}
