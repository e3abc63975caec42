import Testing
import TrivisorInstructionSet
import TrivisorVMM

@testable import TrivisorTranslation

@Suite struct SpinBrakeTests {
  @Test func restsAreForLoopsAndGrow() {
    var brake = SpinBrake()
    let window = SpinBrake.window
    // Whoever has paused a few times in a long time waits for nobody.
    var now = 10 * window
    #expect(brake.rest(at: now) == 0)
    now += 2 * window
    #expect(brake.rest(at: now) == 0)
    var rests: [UInt64] = []
    for _ in 0..<7 {
      now += window / 10
      let rest = brake.rest(at: now)
      rests.append(rest)
      now += rest
      brake.rested(until: now)
    }
    #expect(rests == [50_000, 100_000, 200_000, 400_000, 800_000, 800_000, 800_000])
    now += window + 1
    #expect(brake.rest(at: now) == 0)
    now += window
    #expect(brake.rest(at: now) == 50_000)
  }

  /// A processor may be left behind PAUSE, so the flags must be somewhere; behind NOP they are nobody's.
  @Test func flagsAreKeptAtPause() throws {
    #expect(try entries([0xf3, 0x90, 0x31, 0xc0, 0xc3]).isOneForBoth == false)
    #expect(try entries([0x90, 0x31, 0xc0, 0xc3]).isOneForBoth)
  }

  private func entries(_ code: [UInt8]) throws -> BlockEntries {
    let model = ProcessorModel.default
    let announced = AnnouncedFeatures(CPUIDTable(features: model.features, processor: 0, of: 2, name: model.name))
    let memory = try GuestMemory(size: 4 << 20)
    let cache = try TranslationCache(announced: announced, memory: PhysicalMemory(memory), isShared: true)
    var mode = CodeMode.reset
    (mode.bits, mode.isKernel, mode.isFlat) = (.bits64, true, true)
    let number = cache.number(of: mode, probably: 0, ProcessorTurn())
    _ = cache.markAsCode(1)
    let key = BlockKey(page: 1, secondPage: .max, rip: 0x1000, mode: number)
    return try code.withUnsafeBytes { try #require(cache.make($0, key: key, mode: mode)) }.entries
  }
}

extension BlockEntries {
  /// Forward jumps come in at one place, wherever they have left the flags.
  fileprivate var isOneForBoth: Bool { quickRAX == quickHost }
}
