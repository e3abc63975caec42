import Testing

@testable import TrivisorTranslation

@Suite struct SpinBrakeTests {
  @Test func restsAreForLoopsAndGrow() {
    var brake = SpinBrake()
    // Whoever has paused a few times in a long time waits for nobody.
    #expect(brake.rest(at: 10_000_000) == 0)
    #expect(brake.rest(at: 12_000_000) == 0)
    var now: UInt64 = 12_000_000
    var rests: [UInt64] = []
    for _ in 0..<7 {
      now += 100_000
      let rest = brake.rest(at: now)
      rests.append(rest)
      now += rest
      brake.rested(until: now)
    }
    #expect(rests == [50_000, 100_000, 200_000, 400_000, 800_000, 800_000, 800_000])
    now += 1_000_001
    #expect(brake.rest(at: now) == 0)
    now += 1_000_000
    #expect(brake.rest(at: now) == 50_000)
  }
}
