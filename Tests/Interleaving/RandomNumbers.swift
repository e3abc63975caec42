/// A sequence of random numbers that is the same for the same seed (Steele, Lea and Flood: SplitMix64).
struct RandomNumbers {
  private var state: UInt64

  init(seed: UInt64) { state = seed &* 0xd134_2543_de82_ef95 &+ 0x2545_f491_4f6c_dd1d }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }

  /// From 0 on.
  mutating func below(_ limit: Int) -> Int { Int(next() >> 32) % limit }

  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

  /// Another sequence, that of this one does not follow from.
  mutating func split() -> RandomNumbers { RandomNumbers(seed: next()) }
}
