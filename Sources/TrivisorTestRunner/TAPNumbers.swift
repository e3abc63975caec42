/// The numbers of a document's test points. Points may come in any order, each once; those that come in order cost nothing.
struct TAPNumbers {
  /// How many are kept until their predecessors come; what is beyond is not told apart.
  static let limit = 1 << 16

  /// All numbers from 1 to this one are there.
  private(set) var contiguous = 0
  private var others: Set<Int> = []

  /// Whether there were more out of order than are kept.
  private(set) var isOverLimit = false

  /// - Returns: whether the number is new.
  mutating func insert(_ number: Int) -> Bool {
    guard number == contiguous + 1 else {
      guard number < 1 || number > contiguous else { return false }
      guard others.count < Self.limit else {
        isOverLimit = true
        return true
      }
      return others.insert(number).inserted
    }
    contiguous = number
    while others.remove(contiguous + 1) != nil { contiguous += 1 }
    return true
  }

  /// One that is not between 1 and `count`.
  func outside(_ count: Int) -> Int? {
    others.filter { $0 < 1 || $0 > count }.min() ?? (contiguous > count ? count + 1 : nil)
  }
}
