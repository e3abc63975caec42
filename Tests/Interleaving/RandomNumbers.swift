import TrivisorSpoiledStates

/// A sequence of random numbers that is the same for the same seed.
struct RandomNumbers {
  private var generator: SeededGenerator

  init(seed: UInt64) { generator = SeededGenerator(seed: seed &* 0xd134_2543_de82_ef95 &+ 0x2545_f491_4f6c_dd1d) }

  mutating func next() -> UInt64 { generator.next() }

  /// From 0 on.
  mutating func below(_ limit: Int) -> Int { Int(next() >> 32) % limit }

  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

  /// Another sequence, that of this one does not follow from.
  mutating func split() -> RandomNumbers { RandomNumbers(seed: next()) }
}
