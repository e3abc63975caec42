/// The fields of CR3 (AMD64 APM vol. 2, 5.2.1, 5.3.2 and 5.5.1).
public enum CR3 {
  /// Where the page directory lies, in 32-bit paging.
  public static let directory: UInt64 = 0xffff_f000
  /// Where the four entries of the pointer table lie, in PAE paging.
  public static let pointerTable: UInt64 = 0xffff_ffe0
  /// PCID: the process-context identifier, with `CR4.processContext`.
  public static let processContext: UInt64 = 0xfff
  /// Bits 63 to 52, which must be zero.
  public static let reserved: UInt64 = 0xfff0_0000_0000_0000
}
