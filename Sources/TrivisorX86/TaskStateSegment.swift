/// Offsets in a task-state segment (AMD64 APM vol. 2, figures 12-6 and 12-8).
public enum TaskStateSegment {
  /// The last byte that a segment of 16 bits must have.
  @inlinable public static var lastByte16: UInt32 { 0x2b }
  /// The last byte that one of 32 or 64 bits must have.
  @inlinable public static var lastByte: UInt32 { 0x67 }
  /// Two bytes of 32 and 64 bits' form: where the I/O permission bitmap begins.
  @inlinable public static var permissionMap: UInt64 { 0x66 }

  /// 64 bits: RSP0 to RSP2, eight bytes each.
  @inlinable public static func stack64(_ privilege: UInt8) -> UInt64 { 4 + 8 * UInt64(privilege) }
  /// 64 bits: IST1 to IST7, eight bytes each.
  @inlinable public static func interruptStack(_ number: UInt8) -> UInt64 { 0x24 + 8 * (UInt64(number) - 1) }
  /// 32 bits: ESP0 to ESP2, four bytes, and behind each its SS, in four bytes.
  @inlinable public static func stack32(_ privilege: UInt8) -> UInt64 { 4 + 8 * UInt64(privilege) }
  /// 16 bits: SP0 to SP2 and SS0 to SS2, two bytes each.
  @inlinable public static func stack16(_ privilege: UInt8) -> UInt64 { 2 + 4 * UInt64(privilege) }
}
