/// Offsets in a task-state segment (AMD64 APM vol. 2, figures 12-6 and 12-8).
public enum TaskStateSegment {
  /// The last byte that a segment of 16 bits must have.
  @inlinable public static var lastByte16: UInt32 { 0x2b }
  /// The last byte that one of 32 or 64 bits must have.
  @inlinable public static var lastByte: UInt32 { 0x67 }
  /// Two bytes of 32 and 64 bits' form: where the I/O permission bitmap begins.
  @inlinable public static var permissionMap: UInt64 { 0x66 }

  /// Of the permission bitmap's beginning: the 32 bytes in front of it say which vectors INT n takes to the program's own table
  /// in virtual-8086 mode with CR4.VME.
  @inlinable public static var redirectionMapSize: UInt64 { 32 }

  /// 64 bits: RSP0 to RSP2, eight bytes each.
  @inlinable public static func stack64(_ privilege: UInt8) -> UInt64 { 4 + 8 * UInt64(privilege) }
  /// 64 bits: IST1 to IST7, eight bytes each.
  @inlinable public static func interruptStack(_ number: UInt8) -> UInt64 { 0x24 + 8 * (UInt64(number) - 1) }
  /// 32 bits: ESP0 to ESP2, four bytes, and behind each its SS, in four bytes.
  @inlinable public static func stack32(_ privilege: UInt8) -> UInt64 { 4 + 8 * UInt64(privilege) }
  /// 16 bits: SP0 to SP2 and SS0 to SS2, two bytes each.
  @inlinable public static func stack16(_ privilege: UInt8) -> UInt64 { 2 + 4 * UInt64(privilege) }

  /// Where a task's registers are, in the form of 16 and in that of 32 bits.
  public struct Registers: Sendable {
    /// EIP, and EFLAGS.
    public let instructionPointer: UInt64, flags: UInt64
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, each as wide as the form.
    public let general: UInt64
    /// ES, CS, SS, DS, and in 32 bits FS and GS, at the same distance.
    public let segments: UInt64, segmentCount: Int
    /// LDTR's selector.
    public let localTable: UInt64
    /// CR3, in 32 bits.
    public let pageTables: UInt64?
    /// In its bit 0 T, in 32 bits.
    public let trap: UInt64?

    /// - Parameter isWide: of 32 bits.
    public init(isWide: Bool) {
      (instructionPointer, flags, general) = isWide ? (0x20, 0x24, 0x28) : (0xe, 0x10, 0x12)
      (segments, segmentCount, localTable) = isWide ? (0x48, 6, 0x60) : (0x22, 4, 0x2a)
      (pageTables, trap) = isWide ? (0x1c, 0x64) : (nil, nil)
    }
  }
}
