/// The two watchdogs of a domain, by when they run out; `nil` for those that are not set (SCHEDOP_watchdog).
struct Watchdogs {
  static let count: UInt32 = 2
  var first, second: UInt64?

  subscript(position: UInt32) -> UInt64? {
    get { position == 0 ? first : second }
    set { if position == 0 { first = newValue } else { second = newValue } }
  }

  /// One that is not set.
  var free: UInt32? { first == nil ? 0 : second == nil ? 1 : nil }

  func hasRunOut(at now: UInt64) -> Bool { now >= first ?? .max || now >= second ?? .max }
}
