/// Physical pages as words that can be mixed with a linear page, so that one compare asks for both.
///
/// A linear page address has its bits 12 to 47 for itself, and the others are 0 or copies of bit 47. A code has bits elsewhere:
/// the low 12 of the page's number (plus 1) in bits 0 to 11, the others from bit 48. So `linear ^ code` is equal for two pairs only
/// if both are the same.
enum PageCode {
  /// What no page's word is.
  static let none = UInt64.max

  /// Bits 27 and up of a number would look like the copies of bit 47.
  @inline(__always)
  static func exists(for page: UInt64) -> Bool { page < 1 << 27 - 1 }

  @inline(__always)
  static func code(for page: UInt64) -> UInt64 {
    let number = page &+ 1
    return number & 0xfff | (number >> 12) << 48
  }
}
