import CSharedWords
import Glibc
import VMM

/// Xen's system time: nanoseconds since the domain was made, and how a guest comes from its time-stamp counter to them
/// (`struct vcpu_time_info` in xen.h).
struct SystemTime {
  /// The host's clock when the domain was made.
  let start: UInt64
  private let firstTimestamp: UInt64

  init() {
    start = monotonicNanoseconds()
    firstTimestamp = host_timestamp()
  }

  var now: UInt64 { monotonicNanoseconds() &- start }

  /// The host's clock at a system time; never, if that is too far.
  func hostTime(_ systemTime: UInt64) -> UInt64 {
    let sum = start.addingReportingOverflow(systemTime)
    return sum.overflow ? .max : sum.partialValue
  }

  /// Writes time_info, with the version odd while it is in work. The counter's frequency is what it was since the start:
  /// the longer a domain runs, the better it is known.
  func update(_ info: UnsafeMutableRawPointer) {
    let place = info + 32
    let version = place.assumingMemoryBound(to: UInt32.self)
    let (nanoseconds, timestamp) = (monotonicNanoseconds(), host_timestamp())
    let (elapsed, ticks) = (max(1, nanoseconds &- start), max(1, timestamp &- firstTimestamp))
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
    sharedInfo.storeBytes(of: 2, toByteOffset: offset, as: UInt32.self)
    sharedInfo.storeBytes(
      of: UInt32(truncatingIfNeeded: total / 1_000_000_000), toByteOffset: offset + 4, as: UInt32.self)
    sharedInfo.storeBytes(of: UInt32(total % 1_000_000_000), toByteOffset: offset + 8, as: UInt32.self)
  }
}
