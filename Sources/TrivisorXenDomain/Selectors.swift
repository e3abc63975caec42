import TrivisorVMM
import TrivisorX86

/// Both modules of the manuals' names have one.
typealias Segment = TrivisorVMM.Segment

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

  private static func flat(_ attributes: SegmentAttributes) -> DomainDescriptor {
    DomainDescriptor(SegmentDescriptor(base: 0, limit: 0xf_ffff, attributes: attributes).rawValue)
  }

  private static let flatCode64 = flat(.flatCode64(privilege: 3))
  private static let flatCode32 = flat(.flatCode32(privilege: 3))
  private static let flatData = flat(.flatData(privilege: 3))
  private static let flatKernelCode32 = flat(.flatCode32(privilege: 1))
  private static let flatKernelData32 = flat(.flatData(privilege: 1))

  /// Xen's part of a descriptor table that guest code can use (Xen's arch/x86/desc.c); the rest of it is for level 0.
  /// - Returns: `nil` where there is nothing for the guest.
  static func descriptor(_ selector: UInt16, _ layout: SharedLayout) -> DomainDescriptor? {
    switch (layout, UInt64(selector) & ~level) {
    case (.bits64, code64 & ~level): flatCode64
    case (.bits64, code32 & ~level): flatCode32
    case (.bits64, data64 & ~level): flatData
    case (.bits32, kernelCode32 & ~level): flatKernelCode32
    case (.bits32, kernelData32 & ~level): flatKernelData32
    case (.bits32, userCode32 & ~level): flatCode32
    case (.bits32, userData32 & ~level): flatData
    default: nil
    }
  }

  /// What a segment register has in it that holds one of Xen's flat selectors. Another that an executor has found in CS or SS
  /// counts as one of the kernel's.
  public static func segment(_ selector: UInt16, _ layout: SharedLayout, isCode: Bool) -> TrivisorVMM.Segment {
    if let found = descriptor(selector, layout), found.isCode == isCode { return found.segment(selector) }
    let kernels =
      switch layout {
      case .bits64: isCode ? code64 : data64
      case .bits32: isCode ? kernelCode32 : kernelData32
      }
    var segment =
      descriptor(UInt16(truncatingIfNeeded: kernels), layout)?.segment(selector) ?? .flatData(selector: selector)
    segment.selector = selector
    return segment
  }
}
