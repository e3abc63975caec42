import TrivisorVMM

/// Xen's selectors for its flat segments (Xen's public headers arch-x86/xen-x86_64.h, FLAT_RING3_…, and xen-x86_32.h).
public enum Selectors {
  /// 64-bit code, of the kernel and its users.
  public static let code64: UInt64 = 0xe033
  /// Data and stack of 64-bit domains.
  public static let data64: UInt64 = 0xe02b
  /// 32-bit code of 64-bit domains' users.
  public static let code32: UInt64 = 0xe023
  /// Code of a 32-bit domain's kernel.
  public static let kernelCode32: UInt64 = 0xe019
  /// Data and stack of a 32-bit domain's kernel.
  public static let kernelData32: UInt64 = 0xe021
  /// Code of a 32-bit domain's users.
  public static let userCode32: UInt64 = 0xe02b
  /// Data and stack of a 32-bit domain's users.
  public static let userData32: UInt64 = 0xe033

  /// The requested privilege level.
  static let level: UInt64 = 3

  /// What code and data in a flat segment look like to the processor, for reports.
  static func code(_ selector: UInt16, _ layout: SharedLayout) -> Segment {
    layout == .bits64
      ? .flatCode64(selector: selector) : .flatCode32(selector: selector)
  }

  static func data(_ selector: UInt16, _ layout: SharedLayout) -> Segment { .flatData(selector: selector) }
}
