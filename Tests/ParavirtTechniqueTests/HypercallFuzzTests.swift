import Foundation
import Testing
import TrivisorHypercallFuzz

/// Random sequences of hypercalls; `tools/fuzz hypercalls` makes more of them.
struct HypercallFuzzTests {
  private static let callCount = 12_000
  private static let seed: UInt64 = 0x9e37_79b9_7f4a_7c15

  @Test("random hypercalls of both widths", arguments: [true, false])
  func sequences(is64Bit: Bool) throws {
    var sequence = try HypercallSequence(is64Bit: is64Bit, seed: Self.seed)
    for _ in 0..<Self.callCount { try sequence.next() }
    try sequence.check()
  }
}
