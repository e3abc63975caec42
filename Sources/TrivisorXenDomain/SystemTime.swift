import TrivisorCSharedWords
import Glibc
import TrivisorVMM

/// Xen's system time: nanoseconds since the domain was made, and how a guest comes from its time-stamp counter to them
/// (`struct vcpu_time_info` in xen.h).
struct SystemTime {
  /// The host's clock when the system time was 0; before the host's own zero, and so wrapped, for a domain that is older
  /// than its host.
  let start: UInt64
  /// From where the counter's frequency is measured.
  private let reference: TimeReference

  init() {
    reference = TimeReference()
    start = reference.nanoseconds
  }

  /// - Parameters:
  ///   - systemTime: what it is when the host's clock is `now`.
  ///   - reference: some milliseconds old.
  init(_ systemTime: UInt64, at now: UInt64, reference: TimeReference) {
    start = now &- systemTime
    self.reference = reference
  }

  var now: UInt64 { monotonicNanoseconds() &- start }

  /// The host's clock at a system time; never, if that is too far.
  func hostTime(_ systemTime: UInt64) -> UInt64 {
    guard let distance = Int64(exactly: systemTime) else { return .max }
    let sum = Int64(bitPattern: start).addingReportingOverflow(distance)
    return sum.overflow ? .max : UInt64(max(sum.partialValue, 0))
  }

  /// Writes time_info, with the version odd while it is in work. The counter's frequency is what it was since the
  /// reference: the longer a domain runs, the better it is known.
  func update(_ info: UnsafeMutableRawPointer) {
    let place = info + 32
    let version = place.assumingMemoryBound(to: UInt32.self)
    let (nanoseconds, timestamp) = (monotonicNanoseconds(), host_timestamp())
    let elapsed = max(1, nanoseconds &- reference.nanoseconds)
    let ticks = max(1, timestamp &- reference.timestamp)
    // nanoseconds = (ticks << shift) * multiplier >> 32, with a multiplier of 32 bits and as many digits as possible.
    var shift: Int8 = 0
    var ratio = Double(elapsed) / Double(ticks)
    while ratio >= 1, shift < 30 {
      ratio /= 2
      shift += 1
    }
    while ratio < 0.5, shift > -30 {
      ratio *= 2
      shift -= 1
    }
    let multiplier = UInt32(min(ratio * 4_294_967_296, 4_294_967_295))
    shared_store(version, version.pointee | 1)
    place.storeBytes(of: timestamp, toByteOffset: 8, as: UInt64.self)
    place.storeBytes(of: nanoseconds &- start, toByteOffset: 16, as: UInt64.self)
    place.storeBytes(of: multiplier, toByteOffset: 24, as: UInt32.self)
    place.storeBytes(of: shift, toByteOffset: 28, as: Int8.self)
    place.storeBytes(of: 0, toByteOffset: 29, as: UInt8.self)
    shared_store(version, version.pointee &+ 1)
  }

  /// Wall-clock time at system time 0, in shared_info.
  func writeWallClock(_ sharedInfo: UnsafeMutableRawPointer, offset: Int) {
    var wall = timespec()
    clock_gettime(CLOCK_REALTIME, &wall)
    let total = UInt64(wall.tv_sec) &* 1_000_000_000 &+ UInt64(wall.tv_nsec) &- now
    // Even: it is complete; another one, because a guest that is restored may be in the middle of reading it.
    let version = sharedInfo.load(fromByteOffset: offset, as: UInt32.self)
    sharedInfo.storeBytes(of: (version | 1) &+ 1, toByteOffset: offset, as: UInt32.self)
    sharedInfo.storeBytes(
      of: UInt32(truncatingIfNeeded: total / 1_000_000_000), toByteOffset: offset + 4, as: UInt32.self)
    sharedInfo.storeBytes(of: UInt32(total % 1_000_000_000), toByteOffset: offset + 8, as: UInt32.self)
  }
}

/// A reading of the host's clock and of its time stamp counter.
public struct TimeReference: Sendable {
  let nanoseconds, timestamp: UInt64

  /// As they are now.
  public init() {
    nanoseconds = monotonicNanoseconds()
    timestamp = host_timestamp()
  }

  /// In nanoseconds; a shorter time would not tell the counter's frequency well.
  private static let usefulAge: UInt64 = 2_000_000

  func waitUntilUseful() {
    let age = monotonicNanoseconds() &- nanoseconds
    if age < Self.usefulAge { usleep(UInt32((Self.usefulAge - age) / 1000 + 1)) }
  }
}

/// Points in the host's time, of which the last one is never, as their distance from now: another host can use that.
enum SavedTime {
  /// `nil` for never; negative for what is past.
  static func distance(to time: UInt64, from now: UInt64) -> Int64? {
    time == .max ? nil : Int64(bitPattern: time &- now)
  }

  /// A time before the host's zero is that zero.
  static func time(_ distance: Int64?, from now: UInt64) -> UInt64 {
    guard let distance else { return .max }
    return distance < 0 ? now - min(now, distance.magnitude) : now &+ distance.magnitude
  }
}

extension DomainProcessor {
  /// Of `struct vcpu_time_info`: what follows its version.
  private static let timeSize = 32

  /// vcpu_time_info, and its copy where the guest has asked for one.
  func updateTime() {
    domain.time.update(info)
    guard timeArea != 0 else { return }
    let place = info + 32
    let version = place.load(as: UInt32.self)
    var words: [UInt8] = []
    for offset in 4..<Self.timeSize { words.append(place.load(fromByteOffset: offset, as: UInt8.self)) }
    // The area was the guest's own idea, and may be gone.
    guard (try? write(version | 1, to: timeArea, root: kernelRoot)) != nil else { return }
    try? domain.memory.write(words, to: timeArea &+ 4, root: kernelRoot)
    try? write(version, to: timeArea, root: kernelRoot)
  }
}
