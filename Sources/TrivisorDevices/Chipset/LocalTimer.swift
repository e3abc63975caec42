// The timer of a local APIC. Nothing counts: a register that is read is computed from the clock, and the next interrupt
// is a point in time.

import TrivisorVMM

/// What the three modes have in common, and their registers (Intel SDM vol. 3, 11.5.4; AMD64 APM vol. 2, 16.4.1).
struct LocalTimer {
  /// Bits 17 and 18 of the timer's entry in the local vector table.
  enum Mode: UInt32 {
    case oneShot = 0, periodic = 1, deadline = 2
  }

  /// The timer counts nanoseconds, divided.
  private static let shortestPeriod: UInt64 = 100_000

  private(set) var initialCount: UInt32 = 0
  /// Bits 0, 1 and 3.
  private(set) var divideConfiguration: UInt32 = 0
  /// When the count reaches zero; `nil` while it is zero.
  private var expiry: UInt64?
  /// Of the guest's time stamp counter; 0 is none.
  private(set) var deadline: UInt64 = 0

  private var divisor: UInt64 {
    let code = divideConfiguration & 3 | divideConfiguration >> 1 & 4
    return code == 7 ? 1 : 2 << UInt64(code)
  }

  private var period: UInt64 { UInt64(initialCount) &* divisor }
  /// Shorter ones than the host can serve are made longer.
  private var servedPeriod: UInt64 { max(period, Self.shortestPeriod) }

  mutating func setInitialCount(_ count: UInt32, now: UInt64) {
    initialCount = count
    expiry = count == 0 ? nil : now &+ period
  }

  /// The counter goes on from where it is.
  mutating func setDivideConfiguration(_ value: UInt32, now: UInt64) {
    let left = currentCount(now)
    divideConfiguration = value & 0xb
    if expiry != nil { expiry = now &+ UInt64(left) &* divisor }
  }

  mutating func setDeadline(_ value: UInt64) { deadline = value }

  /// What a change to or from the deadline mode does.
  mutating func disarm() {
    expiry = nil
    deadline = 0
  }

  func currentCount(_ now: UInt64) -> UInt32 {
    guard let expiry, expiry > now else { return 0 }
    return UInt32(clamping: (expiry &- now &+ divisor &- 1) / divisor)
  }

  /// Whether it has run out since the last call.
  mutating func advance(_ mode: Mode, now: UInt64, timestamp: UInt64) -> Bool {
    if mode == .deadline {
      guard deadline != 0, timestamp >= deadline else { return false }
      deadline = 0
      return true
    }
    guard let expiry, now >= expiry else { return false }
    guard mode == .periodic else {
      self.expiry = nil
      return true
    }
    // Periods that nobody saw are lost.
    self.expiry = now &+ servedPeriod &- (now &- expiry) % servedPeriod
    return true
  }

  /// When `advance` has something to do, in nanoseconds.
  func nextExpiry(_ mode: Mode, _ clock: borrowing ChipsetTime) -> UInt64? {
    guard mode == .deadline else { return expiry }
    guard deadline != 0 else { return nil }
    guard deadline > clock.timestamp else { return clock.nanoseconds }
    // In an hour somebody looks again.
    let frequency = max(clock.timestampFrequency, 1)
    let ticks = min(deadline &- clock.timestamp, frequency &* 3600)
    let product = ticks.multipliedFullWidth(by: 1_000_000_000)
    return clock.nanoseconds &+ frequency.dividingFullWidth(product).quotient &+ 1
  }

  // MARK: Saved form

  struct Saved: Codable, Sendable, Equatable {
    var initialCount: UInt32
    var divideConfiguration: UInt32
    /// Nanoseconds until the count is zero; negative if nobody has noticed yet that it is.
    var untilExpiry: Int64?
    /// Of the guest's time stamp counter.
    var deadline: UInt64
  }

  func save(now: UInt64) -> Saved {
    Saved(
      initialCount: initialCount, divideConfiguration: divideConfiguration,
      untilExpiry: expiry.map { expiry in
        // Of periods that nobody has noticed, the last one: they count as one.
        expiry > now ? Int64(clamping: expiry &- now) : -Int64(clamping: (now &- expiry) % servedPeriod)
      }, deadline: deadline)
  }

  init() {}

  init(_ saved: Saved, now: UInt64) throws(RestoreFailure) {
    let subject = "local APIC's timer"
    try restoring(
      subject, requires: saved.divideConfiguration & ~0xb == 0, "its divider is \(saved.divideConfiguration)")
    initialCount = saved.initialCount
    divideConfiguration = saved.divideConfiguration
    deadline = saved.deadline
    guard let left = saved.untilExpiry else { return }
    // Short periods are made longer (`advance`).
    let longest = max(UInt64(initialCount), Self.shortestPeriod) * divisor
    try restoring(subject, requires: left.magnitude <= longest, "it runs longer than its count")
    expiry = left < 0 && left.magnitude >= now ? now : now &+ UInt64(bitPattern: left)
  }
}
