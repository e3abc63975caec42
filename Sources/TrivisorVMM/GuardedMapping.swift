import TrivisorCLinux
import Glibc

/// Mappings with nothing on either side: what runs over an edge faults, and does not meet what happens to lie there.
public enum GuardedMapping {
  /// Of each of the two sides, in bytes: more than any single access, or a field behind a bad pointer, is away from the edge.
  public static let guardSize = 64 << 10
  private static let pageSize = 4096

  /// As mmap(2).
  /// - Parameters:
  ///   - length: in bytes; what does not fill a page is filled up.
  ///   - alignment: of the mapping's beginning, in bytes; a power of two.
  ///   - isFarAway: at a place of its own that can't be told from another mapping's, instead of beside others.
  /// - Returns: `nil` where the host refuses; errno says why.
  public static func map(
    _ length: Int, alignment: Int = 1 << 12, protection: Int32 = PROT_READ | PROT_WRITE,
    flags: Int32 = MAP_PRIVATE | MAP_ANONYMOUS, descriptor: Int32 = -1, isFarAway: Bool = false
  ) -> UnsafeMutableRawPointer? {
    guard length <= Int.max - pageSize else {
      errno = ENOMEM
      return nil
    }
    let length = whole(length)
    let (inner, overflow) = length.addingReportingOverflow(alignment)
    guard !overflow, inner <= Int.max - 2 * guardSize else {
      errno = ENOMEM
      return nil
    }
    let reserved = inner + 2 * guardSize
    let reservation = mmap(
      isFarAway ? farAway : nil, reserved, PROT_NONE, CLINUX_MAP_ANONYMOUS_NORESERVE, -1, 0)
    guard let reservation, reservation != MAP_FAILED else { return nil }
    let start = (reservation + guardSize).alignedUp(toMultipleOf: alignment)
    let mapping = mmap(start, length, protection, flags | MAP_FIXED, descriptor, 0)
    guard mapping == start else {
      let error = errno
      munmap(reservation, reserved)
      errno = error
      return nil
    }
    let (before, end) = (start - guardSize - reservation, start + length + guardSize)
    if before > 0 { munmap(reservation, before) }
    let behind = reservation + reserved - end
    if behind > 0 { munmap(end, behind) }
    return start
  }

  /// Gives it back, with its sides.
  /// - Parameter length: as it was asked for.
  public static func unmap(_ start: UnsafeMutableRawPointer, _ length: Int) {
    munmap(start - guardSize, whole(length) + 2 * guardSize)
  }

  private static func whole(_ length: Int) -> Int { (max(length, 1) + (pageSize - 1)) & ~(pageSize - 1) }

  /// Somewhere in the lower half of what a process has, in pages; the host takes it for a wish. Other mappings are near the top.
  private static var farAway: UnsafeMutableRawPointer? {
    let place = UInt64.random(in: 0x0100_0000...0x3fff_ffff) << 12
    return UnsafeMutableRawPointer(bitPattern: UInt(place) << 3)
  }
}
