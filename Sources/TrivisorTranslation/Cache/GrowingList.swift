/// A list from which nothing is taken when it has become meaningless: when it is twice as long as it was, it is looked through
/// instead, and each element that still counts stays once, in ascending order. So adding costs a constant time on average, and there are never more than
/// twice as many elements as count.
struct GrowingList<Element: Comparable> {
  private static var shortest: Int { 16 }

  private(set) var elements: [Element] = []
  private var limit = shortest

  /// - Parameter counts: whether an element still does.
  mutating func append(_ element: Element, keeping counts: (Element) -> Bool) {
    if elements.count >= limit {
      elements.removeAll { !counts($0) }
      elements.sort()
      var kept = 0
      for index in elements.indices where kept == 0 || elements[index] != elements[kept - 1] {
        elements[kept] = elements[index]
        kept += 1
      }
      elements.removeLast(elements.count - kept)
      limit = max(Self.shortest, 2 * elements.count)
    }
    elements.append(element)
  }

  mutating func removeAll(where isGone: (Element) -> Bool) { elements.removeAll(where: isGone) }

  /// Its memory stays.
  mutating func removeAll() {
    elements.removeAll(keepingCapacity: true)
    limit = Self.shortest
  }
}
