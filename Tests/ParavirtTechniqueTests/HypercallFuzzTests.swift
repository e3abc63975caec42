import TrivisorBoot
import Foundation
import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// Random sequences of hypercalls: whatever a kernel asks for, the monitor neither traps nor hangs, and no page table is ever one
/// that the kernel could write to.
struct HypercallFuzzTests {
  /// Reproducible: xorshift.
  private struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }

    mutating func below(_ limit: UInt64) -> UInt64 { next() % limit }
    mutating func one<Value>(of values: [Value]) -> Value { values[Int(below(UInt64(values.count)))] }
  }

  /// How many calls of each width; `TRIVISOR_FUZZ_CALLS` for longer runs.
  private static let callCount =
    ProcessInfo.processInfo.environment["TRIVISOR_FUZZ_CALLS"].flatMap { Int($0) } ?? 12_000
  private static let seed =
    ProcessInfo.processInfo.environment["TRIVISOR_FUZZ_SEED"].flatMap { UInt64($0) } ?? 0x9e37_79b9_7f4a_7c15
  private static let callsPerDomain = 1500
  private static let scratchPages: UInt64 = 4

  /// The hypercalls that do something, those of page tables more often.
  private static let numbers: [UInt64] = [
    0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 12, 12, 13, 13, 14, 14, 14, 15, 16, 17, 18, 19, 20, 20, 20, 20, 21,
    22,
    24, 24, 25, 26, 26, 26, 28, 29, 30, 32, 32, 32, 33, 34, 35, 40, 41, 48, 63,
  ]

  /// A word that may mean something: an address, a frame, an entry, a port, a small number.
  private func word(_ random: inout Random, _ harness: DomainHarness) -> UInt64 {
    let page = random.below(DomainHarness.pageCount + 8)
    let root = harness.start.rootFrame
    switch random.below(16) {
    case 0: return random.next()
    case 1: return harness.address(page) + random.below(4096)
    case 2: return harness.address(page)
    case 3: return harness.frame(page)
    case 4:
      return harness.frame(page) << 12 | random.one(of: [0x21, 0x23, 0x25, 0x27, 0x61, 0x63, 0x65, 0x67, 1, 0x81, 0])
    case 5: return (root + random.below(6)) << 12 | random.one(of: [0x21, 0x23, 0x25, 0x27, 0x65, 0x67])
    case 6: return (root + random.below(6)) << 12 | random.below(512) << 3 | random.below(3)
    case 7: return harness.frame(page) << 12 | random.below(512) << 3 | random.below(3)
    case 8: return root + random.below(6)
    case 9: return XenMachine.domainFrameCount(harness.memory) + XenMachine.firstFrame + random.below(100)
    case 10: return 0x7ff0 | random.below(4) << 16
    case 11: return random.one(of: [0, 1, 0x7ff0, 0x7ff1, 77])
    case 12: return random.below(1 << 12)
    default: return random.below(34)
    }
  }

  private func fill(_ random: inout Random, _ harness: DomainHarness) {
    for _ in 0..<24 {
      let place = harness.address(random.below(Self.scratchPages)) + random.below(32) * 4
      _ = try? harness.store(word(&random, harness), place)
      if random.below(4) == 0 { _ = try? harness.store(UInt32(random.below(24)), place) }
    }
  }

  private func step(_ random: inout Random, _ harness: DomainHarness) {
    let processor = harness.processor
    (processor.mode, processor.rest, processor.isYielding) = (.kernel, .none, false)
    processor.registers.rsp = harness.address(10)
    fill(&random, harness)
    let number = random.one(of: Self.numbers)
    var arguments = (0..<6).map { _ in word(&random, harness) }
    let scratch = harness.address(random.below(Self.scratchPages)) + random.below(16) * 8
    switch number {
    // An operation, then its argument.
    case 12, 16, 17, 19, 24, 29, 30, 32, 33: arguments[0] = random.below(36)
    case 20: (arguments[0], arguments[2]) = (random.below(14), random.below(4))
    case 1, 26:
      arguments = [
        scratch, random.below(6), random.one(of: [0, scratch]), random.one(of: [0x7ff0, 0x7ff0, 0, 77]), 0, 0,
      ]
    case 13: arguments[1] = random.below(5)
    default: break
    }
    if [12, 20, 29, 30, 32, 33].contains(number), random.below(8) > 0 { arguments[1] = scratch }
    if number == 24 {
      arguments[1] = random.below(3)
      if random.below(4) > 0 { arguments[2] = scratch }
    }
    if number == 13, random.below(8) > 0 {
      arguments[0] = scratch
      for entry in 0..<4 as Range<UInt64> {
        _ = try? harness.storeWord(random.one(of: Self.numbers), scratch + entry * 8 * harness.word)
      }
    }
    // It would not end on its own: other threads of its domain would have their turn.
    if number == 2 { arguments[1] &= 0xffff }
    harness.call(number, arguments)
    harness.domain.removeStaleTranslations()
    harness.domain.attendDisks()
    harness.domain.lookAround(processor)
    if random.below(16) == 0 {
      processor.deliverInterrupt()
      processor.deliverUpcall()
    }
  }

  @Test("random hypercalls of both widths", arguments: [true, false])
  func sequences(is64Bit: Bool) throws {
    var random = Random(state: Self.seed ^ (is64Bit ? 0 : 0xff))
    var harness = try DomainHarness(is64Bit: is64Bit, memory: 4 << 20)
    var calls = 0
    for call in 0..<Self.callCount {
      step(&random, harness)
      calls += 1
      if harness.domain.ending != nil || calls >= Self.callsPerDomain {
        #expect(inconsistency(harness.domain.tables) == nil, "after call \(call)")
        harness = try DomainHarness(is64Bit: is64Bit, memory: 4 << 20)
        calls = 0
      }
    }
    #expect(inconsistency(harness.domain.tables) == nil)
  }

  /// What is wrong with the page tables, if anything: an entry that refers to what is not used so, or fewer references than entries.
  private func inconsistency(_ tables: PageTables) -> String? {
    let frames = tables.frames
    var needed = [UInt32](repeating: 0, count: tables.counts.count)
    for (index, use) in tables.uses.enumerated() where tables.counts[index] > 0 {
      guard let level = use.level else { continue }
      let table = XenMachine.firstFrame + UInt64(index)
      for position in 0..<(level == 3 && tables.levels == 3 ? 4 : 512) as Range<UInt64> {
        guard let entry = frames.entry(table, position)?.pointee, entry & PageTables.present != 0 else { continue }
        let target = PageTables.frame(entry)
        guard let place = frames.index(target) else { return "table \(table) names frame \(target), which is none" }
        guard level > 1 else {
          guard entry & PageTables.writable != 0 else { continue }
          guard tables.use(target) == .writable else { return "table \(table) maps \(target), \(tables.use(target))" }
          needed[place] += 1
          continue
        }
        let used = tables.use(target)
        guard used == .table(level - 1) || used == .table(level) && entry & PageTables.writable == 0 else {
          return "table \(table) of level \(level) names \(target), \(used)"
        }
        if target != table { needed[place] += 1 }
      }
    }
    for (index, count) in needed.enumerated() where tables.counts[index] < count {
      return "frame \(XenMachine.firstFrame + UInt64(index)) has \(tables.counts[index]) references of \(count)"
    }
    return nil
  }
}
