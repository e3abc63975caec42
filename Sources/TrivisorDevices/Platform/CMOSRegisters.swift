import TrivisorVMM

/// The registers of `CMOSClock` as a value; the host's time is passed in.
struct CMOSRegisters: Sendable {
  /// The register that says what happened, and forgets it when read.
  static let statusC: UInt8 = 0x0c

  private enum Register {
    static let seconds: UInt8 = 0x00
    static let secondsAlarm: UInt8 = 0x01
    static let minutes: UInt8 = 0x02
    static let minutesAlarm: UInt8 = 0x03
    static let hours: UInt8 = 0x04
    static let hoursAlarm: UInt8 = 0x05
    static let dayOfWeek: UInt8 = 0x06
    static let dayOfMonth: UInt8 = 0x07
    static let month: UInt8 = 0x08
    static let year: UInt8 = 0x09
    static let statusA: UInt8 = 0x0a
    static let statusB: UInt8 = 0x0b
    static let statusC = CMOSRegisters.statusC
    static let statusD: UInt8 = 0x0d
  }

  /// Events: flags in status C, enable bits in status B.
  private enum Event {
    static let updateEnded: UInt8 = 0x10
    static let alarm: UInt8 = 0x20
    static let periodic: UInt8 = 0x40
    static let all: UInt8 = 0x70
    /// Of status C: any of them with its enable bit.
    static let interrupt: UInt8 = 0x80
  }

  private static let second: Int64 = 1_000_000_000
  /// How long before a second ends the "update in progress" bit warns of it.
  private static let updateWarning: Int64 = 244_000
  /// A divider released from reset updates after half a second.
  private static let fractionAfterReset: Int64 = 500_000_000

  var index: UInt8 = 0
  private var memory = InlineArray<128, UInt8>(repeating: 0)
  /// 32.768 kHz time base, 1024 Hz periodic rate: what firmware leaves.
  private var statusA: UInt8 = 0x26
  /// BCD, 24 hours.
  private var statusB: UInt8 = 0x02
  /// Guest time minus host time, in seconds and nanoseconds of a second.
  private var offsetSeconds: Int64 = 0
  private var offsetNanoseconds: Int64 = 0
  /// The time while the clock stands.
  private var standing: CalendarTime?
  private var standingFraction: Int64 = 0
  /// The day of the week is a counter of its own: this much is added to the calendar's, 0–6.
  private var dayOfWeekShift = 0
  /// What happened since status C was last read.
  private var events: UInt8 = 0
  /// Until when that is known: the host's time, and the guest's second if its clock runs.
  private var noted: CMOSClock.Instant
  private var notedSecond: Int64?

  init(memoryBelow4GiB: UInt64, memoryAbove4GiB: UInt64, now: CMOSClock.Instant) {
    noted = now
    notedSecond = now.seconds
    // A diskless PC with a numeric coprocessor.
    memory[0x14] = 0x02
    // Kilobytes below 640 KiB; kilobytes above 1 MiB, twice; 64 KiB units above 16 MiB and above 4 GiB.
    store(640, at: 0x15, bytes: 2)
    let extended = min((max(memoryBelow4GiB, 1 << 20) - 1 << 20) >> 10, 0xffff)
    store(extended, at: 0x17, bytes: 2)
    store(extended, at: 0x30, bytes: 2)
    store(min((max(memoryBelow4GiB, 16 << 20) - 16 << 20) >> 16, 0xffff), at: 0x34, bytes: 2)
    store(min(memoryAbove4GiB >> 16, 0xff_ffff), at: 0x5b, bytes: 3)
    // The checksum of bytes 10–2d, most significant byte first.
    var sum: UInt16 = 0
    for address in 0x10...0x2d { sum &+= UInt16(memory[address]) }
    memory[0x2e] = UInt8(sum >> 8)
    memory[0x2f] = UInt8(sum & 0xff)
  }

  private mutating func store(_ value: UInt64, at address: Int, bytes: Int) {
    for byte in 0..<bytes { memory[address + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
  }

  // MARK: Time

  private var isBinary: Bool { statusB & 0x04 != 0 }
  private var is24Hour: Bool { statusB & 0x02 != 0 }
  /// SET, or the divider chain in reset (DV = 11x).
  private var shouldStand: Bool { statusB & 0x80 != 0 || statusA & 0x60 == 0x60 }

  private func guestTime(_ now: CMOSClock.Instant) -> (seconds: Int64, fraction: Int64) {
    let fraction = now.nanoseconds &+ offsetNanoseconds
    let carry: Int64 = fraction >= Self.second ? 1 : 0
    return (now.seconds &+ offsetSeconds &+ carry, fraction - carry * Self.second)
  }

  private func time(_ now: CMOSClock.Instant) -> CalendarTime {
    standing ?? CalendarTime(secondsSince1970: guestTime(now).seconds)
  }

  /// From now on it is `time`, and `fraction` nanoseconds.
  private mutating func run(from time: CalendarTime, fraction: Int64, now: CMOSClock.Instant) {
    let difference = fraction - now.nanoseconds
    let borrow: Int64 = difference < 0 ? 1 : 0
    offsetNanoseconds = difference + borrow * Self.second
    offsetSeconds = time.secondsSince1970 &- now.seconds &- borrow
  }

  /// Stops or starts the clock as the status registers say.
  private mutating func startOrStop(_ now: CMOSClock.Instant, wasInReset: Bool) {
    if shouldStand {
      if standing == nil {
        let (seconds, fraction) = guestTime(now)
        standing = CalendarTime(secondsSince1970: seconds)
        standingFraction = fraction
      }
    } else if let time = standing {
      standing = nil
      run(from: time, fraction: wasInReset ? Self.fractionAfterReset : standingFraction, now: now)
    }
  }

  private func dayOfWeek(_ time: CalendarTime) -> Int {
    (time.dayOfWeek - 1 + dayOfWeekShift) % 7 + 1
  }

  // MARK: Events

  /// Adds what happened up to now.
  mutating func note(_ now: CMOSClock.Instant) {
    if let ticks = periodicTicks(now), let before = periodicTicks(noted), ticks != before { events |= Event.periodic }
    noted = now
    guard standing == nil else {
      notedSecond = nil
      return
    }
    let second = guestTime(now).seconds
    // Back in time, or on again after standing: nothing has ended.
    if let before = notedSecond, second > before {
      events |= Event.updateEnded
      if let alarm = nextAlarm(after: before), alarm <= second { events |= Event.alarm }
    }
    notedSecond = second
  }

  var isInterruptPending: Bool { events & statusB & Event.all != 0 }

  /// How long until an interrupt that is enabled and not pending; `nil` if none ever comes.
  func nanosecondsToNextInterrupt(_ now: CMOSClock.Instant) -> Int64? {
    let awaited = statusB & ~events & Event.all
    var delay = Int64.max
    if awaited & Event.periodic != 0, statusA & 0x60 != 0x60, let frequency = periodicFrequency {
      let sinceTick = (now.nanoseconds * frequency) % Self.second
      delay = (Self.second - sinceTick + frequency - 1) / frequency
    }
    if standing == nil {
      let (seconds, fraction) = guestTime(now)
      if awaited & Event.updateEnded != 0 { delay = min(delay, Self.second - fraction) }
      if awaited & Event.alarm != 0, let alarm = nextAlarm(after: seconds) {
        delay = min(delay, (alarm - seconds) * Self.second - fraction)
      }
    }
    return delay == .max ? nil : delay
  }

  /// Ticks a second, by status A's rate bits; `nil` when switched off.
  private var periodicFrequency: Int64? {
    switch statusA & 0x0f {
    case 0: nil
    case 1: 256
    case 2: 128
    case let rate: 32_768 >> Int64(rate - 1)
    }
  }

  /// A number that changes with each periodic tick; `nil` when switched off.
  private func periodicTicks(_ now: CMOSClock.Instant) -> Int64? {
    guard statusA & 0x60 != 0x60, let frequency = periodicFrequency else { return nil }
    return now.seconds &* frequency &+ now.nanoseconds * frequency / Self.second
  }

  /// The first second behind `second` at which the alarm registers agree; bytes from c0 on agree with everything. `nil`
  /// if there is no such time of day.
  private func nextAlarm(after second: Int64) -> Int64? {
    var candidate = second &+ 1
    // At most 59 seconds, 59 minutes and 23 hours away, one step each, and as many again for a carry on the way.
    for _ in 0..<300 {
      let time = CalendarTime(secondsSince1970: candidate)
      if !agrees(Register.hoursAlarm, encodeHour(time.hour)) {
        candidate += Int64(3600 - time.minute * 60 - time.second)
      } else if !agrees(Register.minutesAlarm, encode(time.minute)) {
        candidate += Int64(60 - time.second)
      } else if !agrees(Register.secondsAlarm, encode(time.second)) {
        candidate += 1
      } else {
        return candidate
      }
    }
    return nil
  }

  private func agrees(_ register: UInt8, _ value: UInt8) -> Bool {
    memory[Int(register)] >= 0xc0 || memory[Int(register)] == value
  }

  // MARK: Access

  mutating func read(_ now: CMOSClock.Instant) -> UInt8 {
    switch index {
    case Register.seconds: return encode(time(now).second)
    case Register.minutes: return encode(time(now).minute)
    case Register.hours: return encodeHour(time(now).hour)
    case Register.dayOfWeek: return encode(dayOfWeek(time(now)))
    case Register.dayOfMonth: return encode(time(now).day)
    case Register.month: return encode(time(now).month)
    case Register.year: return encode(modulo(time(now).year, 100))
    case CMOSClock.centuryRegister: return encode(modulo(floorDivide(time(now).year, 100), 100))
    case Register.statusA:
      let isUpdating = standing == nil && guestTime(now).fraction >= Self.second - Self.updateWarning
      return isUpdating ? statusA | 0x80 : statusA
    case Register.statusB: return statusB
    case Register.statusC:
      note(now)
      let flags = isInterruptPending ? events | Event.interrupt : events
      events = 0
      return flags
    // The battery is good.
    case Register.statusD: return 0x80
    default: return memory[Int(index & 0x7f)]
    }
  }

  mutating func write(_ value: UInt8, _ now: CMOSClock.Instant) {
    // What happened until now happened under the old settings, and is not to be mistaken for more under the new ones.
    note(now)
    defer { notedSecond = standing == nil ? guestTime(now).seconds : nil }
    let wasInReset = statusA & 0x60 == 0x60
    switch index {
    case Register.statusA:
      statusA = value & 0x7f
      startOrStop(now, wasInReset: wasInReset)
    case Register.statusB:
      // SET takes the update-ended enable bit with it.
      statusB = value & 0x80 != 0 ? value & ~Event.updateEnded : value
      startOrStop(now, wasInReset: wasInReset)
    case Register.statusC, Register.statusD: break
    case Register.dayOfWeek:
      dayOfWeekShift = modulo(decode(value) - time(now).dayOfWeek, 7)
    case Register.seconds, Register.minutes, Register.hours, Register.dayOfMonth, Register.month, Register.year,
      CMOSClock.centuryRegister:
      var time = time(now)
      let dayOfWeek = dayOfWeek(time)
      set(&time, value)
      dayOfWeekShift = modulo(dayOfWeek - time.dayOfWeek, 7)
      if standing != nil {
        standing = time
      } else {
        // A divider reset is not involved: the second goes on.
        run(from: time, fraction: guestTime(now).fraction, now: now)
      }
    default: memory[Int(index & 0x7f)] = value
    }
  }

  private func set(_ time: inout CalendarTime, _ value: UInt8) {
    switch index {
    case Register.seconds: time.second = decode(value)
    case Register.minutes: time.minute = decode(value)
    case Register.hours: time.hour = decodeHour(value)
    case Register.dayOfMonth: time.day = decode(value)
    // Twelve is enough; more would be an index into nothing.
    case Register.month: time.month = min(max(decode(value), 1), 12)
    // The chip keeps two digits of each; what is above a century's would add up with each write.
    case Register.year: time.year = modulo(floorDivide(time.year, 100), 100) * 100 + decode(value)
    default: time.year = decode(value) * 100 + modulo(time.year, 100)
    }
  }

  // MARK: Encoding

  private func encode(_ value: Int) -> UInt8 {
    let value = UInt8(truncatingIfNeeded: value)
    return isBinary ? value : (value / 10 % 16) << 4 | value % 10
  }

  private func decode(_ value: UInt8) -> Int {
    isBinary ? Int(value) : Int(value >> 4) * 10 + Int(value & 0x0f)
  }

  private func encodeHour(_ hour: Int) -> UInt8 {
    if is24Hour { return encode(hour) }
    let half = encode((hour + 11) % 12 + 1)
    return hour >= 12 ? half | 0x80 : half
  }

  private func decodeHour(_ value: UInt8) -> Int {
    if is24Hour { return decode(value) }
    return decode(value & 0x7f) % 12 + (value & 0x80 != 0 ? 12 : 0)
  }
}

// MARK: Saved form

extension CMOSRegisters {
  struct Saved: Codable, Sendable, Equatable {
    var index: UInt8
    var memory: [UInt8]
    var statusA: UInt8
    var statusB: UInt8
    var offsetSeconds: Int64
    var offsetNanoseconds: Int64
    var standing: CalendarTime?
    var standingFraction: Int64
    var dayOfWeekShift: Int
    var events: UInt8
    var notedSeconds: Int64
    var notedNanoseconds: Int64
    var notedSecond: Int64?
  }

  func save() -> Saved {
    Saved(
      index: index, memory: memory.list, statusA: statusA, statusB: statusB, offsetSeconds: offsetSeconds,
      offsetNanoseconds: offsetNanoseconds, standing: standing, standingFraction: standingFraction,
      dayOfWeekShift: dayOfWeekShift, events: events, notedSeconds: noted.seconds, notedNanoseconds: noted.nanoseconds,
      notedSecond: notedSecond)
  }

  /// Some 70,000 years: more than any value of the registers makes, and far from where sums would overflow.
  private static let furthestSecond: Int64 = 1 << 41

  init(_ saved: Saved) throws(RestoreFailure) {
    let subject = "clock"
    index = saved.index
    memory = try fixedStorage(saved.memory, of: "its memory", subject)
    (statusA, statusB) = (saved.statusA, saved.statusB)
    (offsetSeconds, offsetNanoseconds) = (saved.offsetSeconds, saved.offsetNanoseconds)
    (standing, standingFraction) = (saved.standing, saved.standingFraction)
    (dayOfWeekShift, events) = (saved.dayOfWeekShift, saved.events)
    noted = CMOSClock.Instant(seconds: saved.notedSeconds, nanoseconds: saved.notedNanoseconds)
    notedSecond = saved.notedSecond
    try restoring(
      subject, requires: index < 0x80 && statusA < 0x80 && events & ~Event.all == 0 && 0..<7 ~= dayOfWeekShift,
      "its registers have bits that they don't keep")
    try restoring(
      subject, requires: (standing != nil) == shouldStand, "it stands, or runs, against what its registers say")
    let times = [offsetSeconds, noted.seconds, notedSecond ?? 0]
    try restoring(
      subject, requires: times.allSatisfy { (-Self.furthestSecond...Self.furthestSecond) ~= $0 },
      "its time is too far away")
    let fractions = [offsetNanoseconds, standingFraction, noted.nanoseconds]
    try restoring(
      subject, requires: fractions.allSatisfy { 0..<Self.second ~= $0 }, "a fraction of a second is no fraction")
    guard let standing else { return }
    let (time, byte) = (standing, 0...0xff)
    try restoring(
      subject,
      requires: -100_000...100_000 ~= time.year && 1...12 ~= time.month && byte ~= time.day && byte ~= time.hour
        && byte ~= time.minute && byte ~= time.second, "the time at which it stands is none")
  }
}

private func floorDivide(_ value: Int, _ divisor: Int) -> Int {
  (value - modulo(value, divisor)) / divisor
}

private func modulo(_ value: Int, _ divisor: Int) -> Int {
  (value % divisor + divisor) % divisor
}
