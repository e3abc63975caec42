/// The large pages of which a TLB may hold pieces of 4 KiB.
///
/// INVLPG anywhere in a large page makes the whole translation void (AMD64 APM vol. 2, 5.5.2), and by then the guest's
/// tables no longer say how large it was. So whoever fills a TLB notes the pages here, and INVLPG takes them out.
struct LargePages {
  /// log2 of the sizes: 2 MiB, 4 MiB of the legacy format, 1 GiB.
  private static let shifts: [UInt64] = [21, 22, 30]
  private static let everything: ClosedRange<UInt64> = 0...UInt64.max
  private static let limit = 4096

  /// First address, with the size's log2 in the low bits.
  private var locals: Set<UInt64> = []
  private var globals: Set<UInt64> = []
  /// There were more than are worth noting.
  private(set) var isOverflowing = false
  /// Noted most recently, by a hash: a TLB is filled page by page. 0 is no page's value.
  private var recent = [UInt64](repeating: 0, count: Self.recentCount)
  private static let recentCount = 64

  /// Notes the page of a translation, if it is a large one.
  /// - Parameter shift: log2 of its size.
  @inline(__always)
  mutating func note(_ linear: UInt64, shift: UInt64, isGlobal: Bool) {
    guard shift > 12 else { return }
    let page = Self.page(linear, shift)
    let place = Int(linear >> shift & UInt64(Self.recentCount - 1))
    // Global or not is a matter of the tables, which may change: both are noted then.
    let value = page | (isGlobal ? 1 << 6 : 0)
    guard recent[place] != value else { return }
    recent[place] = value
    insert(page, isGlobal: isGlobal)
  }

  private mutating func insert(_ page: UInt64, isGlobal: Bool) {
    guard locals.count + globals.count < Self.limit else {
      isOverflowing = true
      return
    }
    if isGlobal { globals.insert(page) } else { locals.insert(page) }
  }

  private static func page(_ linear: UInt64, _ shift: UInt64) -> UInt64 { (linear >> shift) << shift | shift }

  /// Takes out the large pages around an address.
  /// - Returns: the linear addresses that must go from the TLB.
  mutating func take(around linear: UInt64) -> [ClosedRange<UInt64>] {
    if isOverflowing {
      removeAll()
      return [Self.everything]
    }
    if locals.isEmpty, globals.isEmpty { return [] }
    var taken: [ClosedRange<UInt64>] = []
    for shift in Self.shifts {
      let page = Self.page(linear, shift)
      let wasLocal = locals.remove(page) != nil
      let wasGlobal = globals.remove(page) != nil
      guard wasLocal || wasGlobal else { continue }
      recent[Int(linear >> shift & UInt64(Self.recentCount - 1))] = 0
      taken.append(page & ~63...(page & ~63 | (1 << shift - 1)))
    }
    return taken
  }

  /// Takes out the large pages that are not global; none of them is missing unless `isOverflowing`.
  /// - Parameter taken: empty.
  mutating func takeLocals(into taken: inout Set<UInt64>) {
    guard !locals.isEmpty else { return }
    swap(&locals, &taken)
    for place in recent.indices { recent[place] = 0 }
  }

  /// Puts back what was taken out, which is empty then.
  mutating func putBack(_ taken: inout Set<UInt64>) {
    guard !taken.isEmpty else { return }
    if locals.isEmpty { swap(&locals, &taken) } else { locals.formUnion(taken) }
    taken.removeAll(keepingCapacity: true)
    if locals.count + globals.count > Self.limit { isOverflowing = true }
  }

  /// The TLB is empty, or holds nothing but global pages.
  mutating func removeAll(keepsGlobal: Bool = false) {
    guard isOverflowing || !locals.isEmpty || (!keepsGlobal && !globals.isEmpty) else { return }
    locals.removeAll(keepingCapacity: true)
    for place in recent.indices { recent[place] = 0 }
    if keepsGlobal { return }
    globals.removeAll(keepingCapacity: true)
    isOverflowing = false
  }
}
