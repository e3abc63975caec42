/// What is true of linear addresses (AMD64 APM vol. 2, 1.2.1 and 5.3).
public enum LinearAddress {
  /// Bits 47 to 63 are equal, as four-level page tables demand in long mode.
  @inlinable
  public static func isCanonical(_ address: UInt64) -> Bool {
    let top = Int64(bitPattern: address) >> 47
    return top == 0 || top == -1
  }
}
