/// Which addresses each page table translates: those from some addresses on, one for each way that leads to it from a root. So what a
/// change of an entry makes untrue is known, where the table is at few places: Linux' kernel has its tables at two.
///
/// An address stays noted until the table is none any more, though it may not be there all the time.
struct TablePlaces {
  /// More of one table are taken for all that there are.
  private static let limit = 8

  private enum Kind: UInt64 {
    /// No way leads to it.
    case nowhere, single, several, anywhere
  }

  /// By frame: an address, which is a multiple of 2 MiB, and the kind in its lowest bits.
  private var words: [UInt64]
  /// Of those at several places.
  private var lists: [Int: [UInt64]] = [:]

  private static let kindMask: UInt64 = 3

  init(count: Int) { words = Array(repeating: Kind.nowhere.rawValue, count: count) }

  private func kind(_ index: Int) -> Kind { Kind(rawValue: words[index] & Self.kindMask) ?? .anywhere }

  /// Calls `body` with each address.
  /// - Returns: `false` when it may be anywhere; then nothing is called.
  func each(_ index: Int, _ body: (UInt64) -> Void) -> Bool {
    switch kind(index) {
    case .nowhere: break
    case .single: body(words[index] & ~Self.kindMask)
    case .several: for address in lists[index] ?? [] { body(address) }
    case .anywhere: return false
    }
    return true
  }

  /// It is no table any more.
  mutating func clear(_ index: Int) {
    if kind(index) == .several { lists[index] = nil }
    words[index] = Kind.nowhere.rawValue
  }

  /// - Returns: whether it was not known to be there.
  @discardableResult
  mutating func add(_ index: Int, _ address: UInt64) -> Bool {
    switch kind(index) {
    case .nowhere: words[index] = address | Kind.single.rawValue
    case .single:
      let known = words[index] & ~Self.kindMask
      guard known != address else { return false }
      lists[index] = [known, address]
      words[index] = Kind.several.rawValue
    case .several:
      guard let list = lists[index], !list.contains(address) else { return false }
      guard list.count < Self.limit else { return addAnywhere(index) }
      lists[index]?.append(address)
    case .anywhere: return false
    }
    return true
  }

  private mutating func addAnywhere(_ index: Int) -> Bool {
    guard kind(index) != .anywhere else { return false }
    clear(index)
    words[index] = Kind.anywhere.rawValue
    return true
  }

  /// Notes what an entry of another table leads to.
  /// - Parameter offset: of the entry's addresses in those of its table.
  /// - Returns: whether any of it was not known.
  mutating func inherit(_ index: Int, from table: Int, offset: UInt64) -> Bool {
    switch kind(table) {
    case .nowhere: return false
    case .single: return add(index, (words[table] & ~Self.kindMask) &+ offset)
    case .several:
      var isNew = false
      for address in lists[table] ?? [] where add(index, address &+ offset) { isNew = true }
      return isNew
    case .anywhere: return addAnywhere(index)
    }
  }
}
