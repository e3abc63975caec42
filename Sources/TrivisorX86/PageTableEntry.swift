/// An entry of a page table of any level (AMD64 APM vol. 2, 5.4.1).
public struct PageTableEntry: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// P.
  @inlinable public static var present: PageTableEntry { PageTableEntry(rawValue: 1 << 0) }
  /// R/W.
  @inlinable public static var writable: PageTableEntry { PageTableEntry(rawValue: 1 << 1) }
  /// U/S: for CPL 3, too.
  @inlinable public static var user: PageTableEntry { PageTableEntry(rawValue: 1 << 2) }
  /// PWT.
  @inlinable public static var writeThrough: PageTableEntry { PageTableEntry(rawValue: 1 << 3) }
  /// PCD.
  @inlinable public static var cacheDisable: PageTableEntry { PageTableEntry(rawValue: 1 << 4) }
  /// A: set by the processor.
  @inlinable public static var accessed: PageTableEntry { PageTableEntry(rawValue: 1 << 5) }
  /// D: of a leaf; set by the processor at a store.
  @inlinable public static var dirty: PageTableEntry { PageTableEntry(rawValue: 1 << 6) }
  /// PS: a leaf above the lowest level. In the lowest, PAT.
  @inlinable public static var large: PageTableEntry { PageTableEntry(rawValue: 1 << 7) }
  /// G: of a leaf; see `CR4.pageGlobal`.
  @inlinable public static var global: PageTableEntry { PageTableEntry(rawValue: 1 << 8) }
  /// PAT of a large page.
  @inlinable public static var largePAT: PageTableEntry { PageTableEntry(rawValue: 1 << 12) }
  /// NX; reserved while `EFER.noExecute` is 0.
  @inlinable public static var noExecute: PageTableEntry { PageTableEntry(rawValue: 1 << 63) }

  /// Bits 51 to 12: where the page or the next table lies, for large pages but for the low bits.
  @inlinable public static var address: PageTableEntry { PageTableEntry(rawValue: 0x000f_ffff_ffff_f000) }
  /// Bits 62 to 52: the software's in long mode, reserved in the other modes with entries of 8 bytes.
  @inlinable public static var available: PageTableEntry { PageTableEntry(rawValue: 0x7ff0_0000_0000_0000) }

  /// Bits 62 to 59 of a leaf, in long mode: its protection key (AMD64 APM vol. 2, 5.6.7).
  @inlinable public var protectionKey: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 59 & 15) }

  /// The physical address of the next table, or of a page of 4 KiB.
  @inlinable public var address: UInt64 { intersection(.address).rawValue }
}
