import TrivisorSpoiledStates

/// The addresses that the code can reach, and what is there: the same natively and for the guest.
enum Region {
  static let base: UInt64 = 0x1000_0000
  static let pageCount = 16
  static let size = pageCount * 4096

  enum Page {
    case none, data, readOnly, code, device
  }

  /// Every kind has every other as a neighbour that matters.
  static let pages: [Page] = [
    .none, .data, .data, .none, .data, .readOnly, .data, .code, .code, .data, .device, .data, .none, .readOnly, .none,
    .none,
  ]
  static let firstCodePage = 7
  static let codePageCount = 2
  static let devicePage = 10

  static func address(_ page: Int) -> UInt64 { base + UInt64(page) * 4096 }
}

/// A sequence of random numbers that is the same for the same seed.
struct RandomNumbers: RandomNumberGenerator {
  private var generator: SeededGenerator

  init(seed: UInt64, index: UInt64 = 0) { generator = SeededGenerator(seed: seed &+ index &* 0xd1b5_4a32_d192_ed03) }

  mutating func next() -> UInt64 { generator.next() }

  /// 0 to `limit` - 1; hardly uneven for small limits.
  mutating func below(_ limit: Int) -> Int { Int(truncatingIfNeeded: next() >> 33) % limit }

  /// In so many of a hundred cases.
  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}
