import Glibc

/// A list whose elements never move: what grows is the number of chunks, each of which is mapped at once.
///
/// Growing an array copies it, and touching fresh memory page by page costs the host a fault each: together they were a
/// quarter of what a block took to translate.
struct RecordList<Element: BitwiseCopyable>: ~Copyable {
  private static var chunkSize: Int { 128 << 10 }

  private var chunks: [UnsafeMutablePointer<Element>] = []
  private(set) var count = 0
  /// log2 of the elements in a chunk.
  private let shift: Int

  init() {
    let fitting = Self.chunkSize / MemoryLayout<Element>.stride
    shift = Int.bitWidth - 1 - fitting.leadingZeroBitCount
  }

  deinit {
    for chunk in chunks { munmap(chunk, Self.chunkSize) }
  }

  @inline(__always)
  private func place(_ index: Int) -> UnsafeMutablePointer<Element> {
    chunks[index >> shift] + (index & (1 << shift &- 1))
  }

  subscript(_ index: Int) -> Element {
    @inline(__always) get {
      precondition(index >= 0 && index < count, "no such record")
      return place(index).pointee
    }
    @inline(__always) set {
      precondition(index >= 0 && index < count, "no such record")
      place(index).pointee = newValue
    }
  }

  /// Good until the list is emptied.
  @inline(__always)
  func address(of index: Int) -> UnsafePointer<Element> {
    precondition(index >= 0 && index < count, "no such record")
    return UnsafePointer(place(index))
  }

  mutating func append(_ element: Element) {
    if count >> shift == chunks.count { grow() }
    place(count).initialize(to: element)
    count += 1
  }

  /// What was there may be written over; its memory stays.
  mutating func removeAll() { count = 0 }

  private mutating func grow() {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
    let mapping = mmap(nil, Self.chunkSize, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let mapping, mapping != MAP_FAILED else {
      // As everywhere in Swift: a host without memory for a few records ends the process.
      preconditionFailure("the host has no memory left for records of translated code")
    }
    chunks.append(mapping.bindMemory(to: Element.self, capacity: 1 << shift))
  }
}
