import Glibc

/// A list whose elements never move: what grows is the number of chunks, each of which is mapped at once.
///
/// Growing an array copies it, and touching fresh memory page by page costs the host a fault each: together they were a
/// quarter of what a block took to translate.
///
/// Room is asked for before a block is made (`makeRoom`), where a host without memory can be answered; while it is made,
/// elements are only appended.
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

  /// - Parameter index: below `count`, and so no guest's to choose: indices are what `count` was when something was appended, kept in
  ///   blocks, in other records, or in constants of translated code, all of which go when the list is emptied. What is stopped here
  ///   is a mistake of the translator's, before it reads memory that is not the list's.
  @inline(__always)
  private func place(_ index: Int) -> UnsafeMutablePointer<Element> {
    precondition(index >= 0 && index < count, "no such record")
    return chunks[index >> shift] + (index & (1 << shift &- 1))
  }

  subscript(_ index: Int) -> Element {
    @inline(__always) get { place(index).pointee }
    @inline(__always) set { place(index).pointee = newValue }
  }

  /// Good until the list is emptied.
  @inline(__always)
  func address(of index: Int) -> UnsafePointer<Element> { UnsafePointer(place(index)) }

  /// Makes sure that so many more elements fit, at most as many as a chunk holds.
  /// - Returns: `false` if the host has no memory for them. Once it was `true`, it is so again when the list has been emptied.
  mutating func makeRoom(for number: Int) -> Bool {
    while chunks.count << shift < count + number {
      // The first one comes page by page: a small guest shall not wait for what it will not use.
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | (chunks.isEmpty ? 0 : MAP_POPULATE)
      let mapping = mmap(nil, Self.chunkSize, PROT_READ | PROT_WRITE, flags, -1, 0)
      guard let mapping, mapping != MAP_FAILED else { return false }
      chunks.append(mapping.bindMemory(to: Element.self, capacity: 1 << shift))
    }
    return true
  }

  /// There must be room.
  mutating func append(_ element: Element) {
    count += 1
    place(count - 1).initialize(to: element)
  }

  /// What was there may be written over; its memory stays.
  mutating func removeAll() { count = 0 }
}
