/// Which entries of the software TLB are of pages with a protection key other than 0.
///
/// An entry holds what was allowed when it was filled. Where PKRU takes more than that, the entries of these keys go; nobody else's
/// need to, and a guest that uses no keys has none. Entries that have been filled anew with other pages may still be listed: they
/// are lost for nothing.
struct KeyedEntries {
  /// An entry's place: the table's number and the index in it.
  struct Place {
    let table: UInt8
    let index: UInt16
  }

  private static let limit = 2048
  private static let keyCount = 16

  /// By key.
  private var places = [[Place]](repeating: [], count: keyCount)
  private var count = 0
  private var hasGlobal = false

  /// - Parameter key: not 0.
  mutating func note(_ place: Place, key: UInt8, isGlobal: Bool) {
    // It stays when the others go, whether it is listed or not.
    if isGlobal { hasGlobal = true }
    guard isComplete else { return }
    count += 1
    if isComplete { places[Int(key)].append(place) }
  }

  /// Takes out the entries of some keys.
  /// - Parameter keys: a bit each.
  /// - Returns: the entries; `nil` if that may be any, as it is for key 0, and for the others if they were too many to list.
  mutating func take(_ keys: UInt16) -> [Place]? {
    guard keys & 1 == 0, isComplete else { return nil }
    var taken: [Place] = []
    for key in 1..<Self.keyCount where keys >> UInt16(key) & 1 != 0 && !places[key].isEmpty {
      taken += places[key]
      count -= places[key].count
      places[key].removeAll(keepingCapacity: true)
    }
    return taken
  }

  /// All of them are listed.
  var isComplete: Bool { count <= Self.limit }

  /// Takes out all entries, which must be complete.
  mutating func takeAll() -> [Place] { count == 0 ? [] : take(.max & ~1) ?? [] }

  /// The TLB is empty, or holds nothing but global pages.
  mutating func removeAll(keepsGlobal: Bool) {
    guard count > 0, !(keepsGlobal && hasGlobal) else { return }
    for key in places.indices { places[key].removeAll(keepingCapacity: true) }
    (count, hasGlobal) = (0, false)
  }
}
