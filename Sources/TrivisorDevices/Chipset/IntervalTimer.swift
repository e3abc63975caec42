// The 8254: three counters at 1.193182 MHz. Counter 0 drives line 0, counter 2 the speaker; counter 1 refreshed memory
// once and is only there to be read.
//
// As in the other chips, nothing counts: a counter knows when its count was loaded, and computes the rest. A count that is
// written begins at once in modes 0 and 4, with the gate in modes 1 and 5, and in the periodic modes 2 and 3 at the end of the period, or of
// half a period, that it finds; the tick that loading takes is left out.
//
// Source: Intel 8254 data sheet.

import TrivisorVMM

/// One counter.
struct IntervalCounter {
  static let frequency: UInt64 = 1_193_182
  private static let shortestPeriod: UInt64 = 100_000

  private enum Access: UInt8 {
    case latch = 0, low, high, both
  }

  private var mode: UInt8 = 3
  private var access = Access.both
  private var isDecimal = false
  /// As written; 0 is the largest.
  private var reload: UInt16 = 0
  /// The one that is being counted, which `reload` replaces when its time has come.
  private var loaded: UInt16 = 0
  private var hasCount = false
  /// `reload` waits for its time.
  private var isWaiting = false
  /// When that is, in nanoseconds, if it is not the gate's to say.
  private var change: UInt64?
  private var lowByte: UInt8?
  private var readsHigh = false
  private var latched: UInt16?
  private var latchedStatus: UInt8?
  private(set) var gate: Bool
  /// Since when it counts, in nanoseconds, and how far it had come by then, in billionths of a tick.
  private var start: UInt64 = 0
  private var progress: UInt64 = 0
  /// Ticks counted when the gate closed, or 0 before the first one that opens.
  private var frozen: UInt64?
  /// A one-shot mode has had its event, or none is under way.
  private var isDone = true
  /// Of periodic modes: the next event.
  private var nextPeriod: UInt64 = 0

  init(gate: Bool) { self.gate = gate }

  private var isPeriodic: Bool { mode == 2 || mode == 3 }

  private var count: UInt64 {
    guard isDecimal else { return loaded == 0 ? 0x1_0000 : UInt64(loaded) }
    let digits = UInt64(loaded)
    let value = (digits & 15) + (digits >> 4 & 15) * 10 + (digits >> 8 & 15) * 100 + (digits >> 12) * 1000
    return value == 0 ? 10_000 : value
  }

  private static func nanoseconds(_ ticks: UInt64) -> UInt64 {
    (ticks &* 1_000_000_000 &+ frequency &- 1) / frequency
  }

  private func ticks(_ now: UInt64) -> UInt64 {
    frozen ?? progress(now).ticks
  }

  private static let billion: UInt64 = 1_000_000_000

  /// Whole ticks, and billionths of one.
  private func progress(_ now: UInt64) -> (ticks: UInt64, rest: UInt64) {
    let product = (now > start ? now &- start : 0).multipliedFullWidth(by: Self.frequency)
    let (low, carry) = product.low.addingReportingOverflow(progress)
    let high = product.high &+ (carry ? 1 : 0)
    let result = Self.billion.dividingFullWidth((high % Self.billion, low))
    return (result.quotient, result.remainder)
  }

  /// When so many ticks have been counted.
  private func moment(of ticks: UInt64) -> UInt64 {
    let end = ticks &* Self.billion
    return start &+ (end > progress ? (end &- progress &+ Self.frequency &- 1) / Self.frequency : 0)
  }

  /// Ticks of a period for which the output of mode 3 is high.
  private var highTicks: UInt64 { (count + 1) / 2 }

  /// Of a periodic mode: loads a count whose time has come.
  private mutating func settle(_ now: UInt64) {
    guard let moment = change, now >= moment else { return }
    let beginsLow = mode == 3 && ticks(moment) % count >= highTicks
    let endOfLow = nextPeriod
    begin(moment)
    guard beginsLow else { return }
    progress = highTicks &* Self.billion
    nextPeriod = endOfLow
  }

  private func settled(_ now: UInt64) -> IntervalCounter {
    var counter = self
    counter.settle(now)
    return counter
  }

  // MARK: Output

  func output(_ now: UInt64) -> Bool {
    if change != nil { return settled(now).presentOutput(now) }
    return presentOutput(now)
  }

  private func presentOutput(_ now: UInt64) -> Bool {
    guard hasCount else { return mode != 0 }
    let ticks = ticks(now)
    switch mode {
    case 0: return ticks >= count
    case 1: return isDone || ticks >= count
    case 2: return !gate || ticks % count != count - 1
    case 3: return !gate || ticks % count < highTicks
    default: return isDone || ticks != count
    }
  }

  private func currentCount(_ now: UInt64) -> UInt16 {
    guard hasCount else { return 0 }
    let ticks = ticks(now)
    let modulus: UInt64 = isDecimal ? 10_000 : 0x1_0000
    let left: UInt64
    switch mode {
    case 2: left = count - ticks % count
    case 3: left = count - 2 * ticks % count
    default: left = (count &- ticks % modulus &+ modulus) % modulus
    }
    let value = left % modulus
    guard isDecimal else { return UInt16(truncatingIfNeeded: value) }
    let digits = value % 10 | (value / 10 % 10) << 4 | (value / 100 % 10) << 8 | (value / 1000) << 12
    return UInt16(truncatingIfNeeded: digits)
  }

  /// In nanoseconds; shorter ones than the host can serve are made longer.
  private var period: UInt64 { max(Self.nanoseconds(count), Self.shortestPeriod) }

  /// Whether the output has risen since the last call.
  mutating func advance(_ now: UInt64) -> Bool {
    guard let event = nextEvent, now >= event else { return false }
    if isPeriodic {
      // Periods that nobody saw are lost.
      settle(now)
      if nextPeriod <= now { nextPeriod = now &+ period &- (now &- nextPeriod) % period }
    } else {
      isDone = true
    }
    return true
  }

  /// When the output rises, in nanoseconds.
  var nextEvent: UInt64? {
    guard hasCount, frozen == nil else { return nil }
    if isPeriodic { return gate ? nextPeriod : nil }
    guard !isDone else { return nil }
    return moment(of: mode >= 4 ? count + 1 : count)
  }

  // MARK: Registers

  mutating func writeControl(_ value: UInt8, now: UInt64) {
    guard let access = Access(rawValue: value >> 4 & 3), access != .latch else { return latch(now) }
    self.access = access
    mode = value >> 1 & 7
    // 6 and 7 are 2 and 3.
    if mode > 5 { mode &= 3 }
    isDecimal = value & 1 != 0
    (hasCount, isDone, frozen) = (false, true, 0)
    (isWaiting, change) = (false, nil)
    (lowByte, latched, latchedStatus, readsHigh) = (nil, nil, nil, false)
  }

  mutating func latch(_ now: UInt64) {
    settle(now)
    if latched == nil { latched = currentCount(now) }
  }

  mutating func latchStatus(_ now: UInt64) {
    settle(now)
    if latchedStatus != nil { return }
    latchedStatus =
      (output(now) ? 0x80 : 0) | (hasCount && !isWaiting ? 0 : 0x40) | access.rawValue << 4 | mode << 1
      | (isDecimal ? 1 : 0)
  }

  mutating func write(_ value: UInt8, now: UInt64) {
    settle(now)
    switch access {
    case .low: load(UInt16(value), now)
    case .high: load(UInt16(value) << 8, now)
    default:
      if let low = lowByte {
        lowByte = nil
        load(UInt16(low) | UInt16(value) << 8, now)
      } else {
        lowByte = value
        // In mode 0 the first byte stops the counting.
        if mode == 0 { (hasCount, isDone) = (false, true) }
      }
    }
  }

  private mutating func load(_ value: UInt16, _ now: UInt64) {
    let hadCount = hasCount
    (reload, hasCount, isWaiting, change) = (value, true, true, nil)
    switch mode {
    case 1, 5:
      // They begin with the gate. What is under way is not changed by that (data sheet, "Mode 1" and "Mode 5").
      if frozen != nil { loaded = value }
    default:
      if isPeriodic, hadCount, frozen == nil { planChange(now) } else { begin(now) }
    }
  }

  /// Of a periodic mode that counts: `reload` takes its turn at the end of the period, or of mode 3's high half.
  private mutating func planChange(_ now: UInt64) {
    let ticks = ticks(now)
    let passed = ticks % count
    let endsHigh = mode == 3 && passed < highTicks
    let moment = moment(of: ticks - passed + (endsHigh ? highTicks : count))
    change = moment
    nextPeriod = moment
    if endsHigh {
      var next = self
      next.begin(moment)
      nextPeriod &+= Self.nanoseconds(next.count &- next.highTicks)
    }
  }

  private mutating func begin(_ now: UInt64) {
    (loaded, isWaiting, change) = (reload, false, nil)
    (start, progress) = (now, 0)
    isDone = false
    frozen = gate || mode == 1 || mode == 5 ? nil : 0
    nextPeriod = now &+ Self.nanoseconds(count)
  }

  mutating func setGate(_ isOpen: Bool, now: UInt64) {
    guard isOpen != gate else { return }
    settle(now)
    let ticks = ticks(now)
    gate = isOpen
    guard hasCount else { return }
    switch mode {
    case 0, 4:
      frozen = isOpen ? nil : withoutRounds(ticks)
      if isOpen { (start, progress) = (now, ticks &* Self.billion) }
    case 2, 3:
      // A count that waits is loaded when the gate opens.
      if isOpen { begin(now) } else { (frozen, change) = (withoutRounds(ticks), nil) }
    default:
      if isOpen { begin(now) }
    }
  }

  mutating func read(now: UInt64) -> UInt8 {
    settle(now)
    if let status = latchedStatus {
      latchedStatus = nil
      return status
    }
    let value = latched ?? currentCount(now)
    switch access {
    case .low:
      latched = nil
      return UInt8(truncatingIfNeeded: value)
    case .high:
      latched = nil
      return UInt8(truncatingIfNeeded: value >> 8)
    default:
      defer { readsHigh.toggle() }
      guard readsHigh else { return UInt8(truncatingIfNeeded: value) }
      latched = nil
      return UInt8(truncatingIfNeeded: value >> 8)
    }
  }
}

/// All three.
struct IntervalTimer {
  private(set) var counters: InlineArray<3, IntervalCounter> = [
    IntervalCounter(gate: true), IntervalCounter(gate: true), IntervalCounter(gate: false),
  ]

  /// Ports 0x40 to 0x42; 0x43 can't be read.
  mutating func read(_ port: UInt16, now: UInt64) -> UInt8 {
    let number = Int(port & 3)
    return number < 3 ? counters[number].read(now: now) : 0xff
  }

  /// Ports 0x40 to 0x43.
  mutating func write(_ value: UInt8, to port: UInt16, now: UInt64) {
    let number = Int(port & 3)
    guard number == 3 else { return counters[number].write(value, now: now) }
    let selected = Int(value >> 6)
    guard selected == 3 else { return counters[selected].writeControl(value, now: now) }
    // Read-back: bits 5 and 4, both inverted, latch count and status of the counters in bits 3 to 1.
    for counter in 0..<3 where value & 2 << UInt8(counter) != 0 {
      if value & 0x20 == 0 { counters[counter].latch(now) }
      if value & 0x10 == 0 { counters[counter].latchStatus(now) }
    }
  }

  mutating func setGate(_ isOpen: Bool, now: UInt64) { counters[2].setGate(isOpen, now: now) }

  /// Whether counter 0's output has risen since the last call.
  mutating func advance(_ now: UInt64) -> Bool { counters[0].advance(now) }
}

// MARK: Saved form

extension IntervalCounter {
  struct Saved: Codable, Sendable, Equatable {
    var mode: UInt8
    var access: UInt8
    var isDecimal: Bool
    var reload: UInt16
    /// Missing where that is being counted.
    var loaded: UInt16?
    var hasCount: Bool
    var lowByte: UInt8?
    var readsHigh: Bool
    var latched: UInt16?
    var latchedStatus: UInt8?
    var gate: Bool
    /// Billionths of a tick since the count was loaded.
    var progress: UInt64
    var frozen: UInt64?
    var isDone: Bool
    /// Nanoseconds until a periodic mode's next event; negative if nobody has noticed it yet.
    var untilNextPeriod: Int64
    /// Nanoseconds until `reload` is loaded, if it waits for its time.
    var untilChange: Int64?
  }

  /// - Parameter keepsEvent: the event of a period that has ended is still to be noticed.
  func save(now: UInt64, keepsEvent: Bool) -> Saved {
    guard let change, now >= change else { return saved(now) }
    var counter = settled(now)
    if keepsEvent { counter.nextPeriod = nextPeriod }
    return counter.saved(now)
  }

  private func saved(_ now: UInt64) -> Saved {
    Saved(
      mode: mode, access: access.rawValue, isDecimal: isDecimal, reload: reload,
      loaded: isWaiting ? loaded : nil, hasCount: hasCount, lowByte: lowByte, readsHigh: readsHigh, latched: latched,
      latchedStatus: latchedStatus, gate: gate,
      progress: savedProgress(now), frozen: frozen.map { withoutRounds($0) }, isDone: isDone,
      untilNextPeriod: untilNextPeriod(now), untilChange: change.map { Int64(clamping: $0 > now ? $0 &- now : 0) })
  }

  /// Of events that nobody has noticed, the last one: they count as one.
  private func untilNextPeriod(_ now: UInt64) -> Int64 {
    guard isPeriodic, hasCount else { return 0 }
    return nextPeriod > now ? Int64(clamping: nextPeriod &- now) : -Int64(clamping: (now &- nextPeriod) % period)
  }

  /// As few ticks as make the same count and output.
  private func withoutRounds(_ ticks: UInt64) -> UInt64 {
    if isPeriodic { return ticks % count }
    let longest: UInt64 = 0x1_0000
    guard ticks > longest else { return ticks }
    return longest + 1 + (ticks - longest - 1) % (isDecimal ? 10_000 : 0x1_0000)
  }

  private func savedProgress(_ now: UInt64) -> UInt64 {
    guard hasCount, frozen == nil else { return 0 }
    let (ticks, rest) = progress(now)
    return withoutRounds(ticks) * Self.billion + rest
  }

  /// In ticks, more than two of the longest counts; and in nanoseconds, more than these take.
  private static let mostTicks: UInt64 = 1 << 18, longestWait: UInt64 = 1_000_000_000

  init(_ saved: Saved, now: UInt64) throws(RestoreFailure) {
    let subject = "interval timer"
    self.init(gate: saved.gate)
    guard let access = Access(rawValue: saved.access), access != .latch, saved.mode < 6 else {
      throw RestoreFailure(subject, "its mode is \(saved.mode), its access \(saved.access)")
    }
    try restoring(
      subject,
      requires: saved.progress <= Self.mostTicks * Self.billion && saved.frozen ?? 0 <= Self.mostTicks
        && saved.untilNextPeriod.magnitude <= Self.longestWait && 0...Int64(Self.longestWait) ~= saved.untilChange ?? 0,
      "its time is too far away")
    mode = saved.mode
    self.access = access
    isDecimal = saved.isDecimal
    reload = saved.reload
    hasCount = saved.hasCount
    loaded = saved.loaded ?? saved.reload
    isWaiting = saved.loaded != nil
    lowByte = saved.lowByte
    readsHigh = saved.readsHigh
    (latched, latchedStatus) = (saved.latched, saved.latchedStatus)
    (start, progress) = (now, saved.progress)
    (frozen, isDone) = (saved.frozen, saved.isDone)
    let left = saved.untilNextPeriod
    nextPeriod = left < 0 ? now - min(now, left.magnitude) : now &+ left.magnitude
    if isPeriodic, isWaiting, frozen == nil { change = saved.untilChange.map { now &+ $0.magnitude } }
  }
}

extension IntervalTimer {
  struct Saved: Codable, Sendable, Equatable {
    var counters: [IntervalCounter.Saved]
  }

  func save(now: UInt64) -> Saved {
    Saved(counters: (0..<3).map { counters[$0].save(now: now, keepsEvent: $0 == 0) })
  }

  init(_ saved: Saved, now: UInt64) throws(RestoreFailure) {
    try restoring(
      "interval timer", requires: saved.counters.count == 3, "it has \(saved.counters.count) counters, not 3")
    for number in 0..<3 { counters[number] = try IntervalCounter(saved.counters[number], now: now) }
  }
}
