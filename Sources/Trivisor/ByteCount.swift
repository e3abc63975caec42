/// An amount of memory.
public struct ByteCount: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// In bytes.
  public var bytes: UInt64

  /// Any number.
  public init(bytes: UInt64) { self.bytes = bytes }

  /// Multiples of 2^20 bytes; what no number can hold becomes the greatest.
  public static func mebibytes(_ count: Int) -> ByteCount { scaled(count, by: 20) }

  /// Multiples of 2^30 bytes; what no number can hold becomes the greatest.
  public static func gibibytes(_ count: Int) -> ByteCount { scaled(count, by: 30) }

  private static func scaled(_ count: Int, by shift: UInt64) -> ByteCount {
    let (bytes, overflow) = UInt64(max(count, 0)).multipliedReportingOverflow(by: 1 << shift)
    return ByteCount(bytes: overflow ? .max : bytes)
  }

  /// By size.
  public static func < (lhs: ByteCount, rhs: ByteCount) -> Bool { lhs.bytes < rhs.bytes }

  /// In MiB where that is exact.
  public var description: String {
    bytes % (1 << 20) == 0 ? "\(bytes >> 20) MiB" : "\(bytes) bytes"
  }
}
