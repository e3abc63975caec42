/// A list that is filled and emptied again and again: it has one owner, so that nothing is counted or copied when it changes.
struct ScratchList<Element: BitwiseCopyable>: ~Copyable {
  private var elements: UnsafeMutablePointer<Element>?
  private var capacity = 0
  private(set) var count = 0

  /// Empty, and without memory until something is in it.
  init() {}

  deinit { elements?.deallocate() }

  /// - Parameter index: the translator's own: it comes from `indices`, from a position in the plan that the plan itself has made, or from
  ///   what was appended just before. A guest's bytes decide how many elements there are, and never which one is asked for; what is stopped
  ///   here is a mistake of ours, before it reads memory that is not the list's.
  @inline(__always)
  private func place(_ index: Int) -> UnsafeMutablePointer<Element> {
    // No input comes here: every index is one that the translator has made for an element that it has appended before. Lists
    // shrink only between blocks, when no index is left, or while `planSharing` goes through one, which asks for its indices anew.
    guard let elements, index >= 0, index < count else { preconditionFailure("past the end of a list") }
    return elements + index
  }

  var indices: Range<Int> { 0..<count }
  var isEmpty: Bool { count == 0 }
  var last: Element? { count == 0 ? nil : self[count - 1] }

  subscript(_ index: Int) -> Element {
    @inline(__always) unsafeAddress { UnsafePointer(place(index)) }
    @inline(__always) unsafeMutableAddress { place(index) }
  }

  @inline(__always)
  mutating func append(_ element: Element) {
    if count == capacity { grow() }
    count += 1
    place(count - 1).initialize(to: element)
  }

  mutating func remove(at index: Int) {
    for later in index..<count - 1 { self[later] = self[later + 1] }
    count -= 1
  }

  mutating func removeLast(_ number: Int) { count = max(0, count - number) }

  mutating func removeAll() { count = 0 }

  private mutating func grow() {
    let larger = max(64, capacity * 2)
    let memory = UnsafeMutablePointer<Element>.allocate(capacity: larger)
    if let elements {
      memory.initialize(from: elements, count: count)
      elements.deallocate()
    }
    elements = memory
    capacity = larger
  }
}
