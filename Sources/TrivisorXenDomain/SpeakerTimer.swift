/// The channel of the interval timer (8254) that sounds a PC's speaker, and the port that gates it: what Xen gives domains of that
/// chip (arch/x86/emul-i8254.c), so that a kernel can measure its time stamp counter. Times are the domain's system time, in
/// nanoseconds.
struct SpeakerTimer: Codable, Sendable, Equatable {
  static let counterPort: UInt16 = 0x42
  static let commandPort: UInt16 = 0x43
  static let gatePort: UInt16 = 0x61

  /// Ticks a second.
  private static let frequency: UInt64 = 1_193_182
  /// Of a command: which channel, and what of its counter is read and written.
  private static let channel: UInt8 = 2
  private static let latches: UInt8 = 0, lowByte: UInt8 = 1, highByte: UInt8 = 2
  /// Of the gate's port: what can be written, the refresh of memory, which changes all the time, and the channel's output.
  private static let writable: UInt8 = 3, refresh: UInt8 = 1 << 4, output: UInt8 = 1 << 5

  private var count: UInt64 = 0x1_0000
  private var start: UInt64 = 0
  private var gate: UInt8 = 0
  /// What a command has chosen: the low byte, the high one, or both in turn.
  private var access: UInt8 = 3
  private var readsHigh = false
  private var writesHigh = false
  private var written: UInt8 = 0
  private var latched: UInt16?

  static func has(_ port: UInt16) -> Bool { port == counterPort || port == commandPort || port == gatePort }

  /// Ticks since the count was written. It is multiplied in two steps, since a domain may be old.
  private func ticks(_ now: UInt64) -> UInt64 {
    let elapsed = now &- start
    return elapsed / 1_000_000_000 &* Self.frequency &+ elapsed % 1_000_000_000 * Self.frequency / 1_000_000_000
  }

  mutating func read(_ port: UInt16, at now: UInt64) -> UInt8 {
    switch port {
    case Self.counterPort:
      let value = latched ?? UInt16(truncatingIfNeeded: count &- ticks(now))
      let isHigh = access == Self.highByte || access != Self.lowByte && readsHigh
      if access != Self.lowByte, access != Self.highByte { readsHigh.toggle() }
      if isHigh || access == Self.lowByte { latched = nil }
      return UInt8(truncatingIfNeeded: isHigh ? value >> 8 : value)
    case Self.gatePort:
      let ticks = ticks(now)
      return gate | (ticks & 16 != 0 ? Self.refresh : 0) | (ticks >= count ? Self.output : 0)
    default: return .max
    }
  }

  mutating func write(_ port: UInt16, _ value: UInt8, at now: UInt64) {
    switch port {
    case Self.commandPort:
      guard value >> 6 == Self.channel else { return }
      guard value >> 4 & 3 != Self.latches else {
        latched = latched ?? UInt16(truncatingIfNeeded: count &- ticks(now))
        return
      }
      access = value >> 4 & 3
      (readsHigh, writesHigh, latched) = (false, false, nil)
    case Self.counterPort:
      switch access {
      case Self.lowByte: begin(UInt64(value), at: now)
      case Self.highByte: begin(UInt64(value) << 8, at: now)
      default:
        if writesHigh { begin(UInt64(value) << 8 | UInt64(written), at: now) } else { written = value }
        writesHigh.toggle()
      }
    case Self.gatePort: gate = value & Self.writable
    default: break
    }
  }

  private mutating func begin(_ value: UInt64, at now: UInt64) { (count, start) = (value == 0 ? 0x1_0000 : value, now) }
}
