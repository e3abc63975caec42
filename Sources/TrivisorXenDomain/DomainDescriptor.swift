import TrivisorVMM
import TrivisorX86

/// An entry of a descriptor table, as a domain may have it (Xen's `check_descriptor` in arch/x86/pv/descriptor-tables.c).
struct DomainDescriptor {
  let raw: UInt64

  init(_ raw: UInt64) { self.raw = raw }

  private var high: UInt32 { UInt32(truncatingIfNeeded: raw >> 32) }

  var isPresent: Bool { high & 1 << 15 != 0 }
  /// Code or data, not a gate or a table.
  var isSegment: Bool { high & 1 << 12 != 0 }
  var privilegeLevel: UInt8 { UInt8(truncatingIfNeeded: high >> 13 & 3) }
  var isCode: Bool { high & 1 << 11 != 0 }
  /// Of data.
  var isWritable: Bool { !isCode && high & 1 << 9 != 0 }
  /// Of code; data always is.
  var isReadable: Bool { !isCode || high & 1 << 9 != 0 }
  var is64BitCode: Bool { isCode && high & 1 << 21 != 0 }
  var is32Bit: Bool { high & 1 << 22 != 0 }
  var base: UInt32 { high & 0xff00_0000 | (high & 0xff) << 16 | UInt32(truncatingIfNeeded: raw >> 16 & 0xffff) }
  private var isInPages: Bool { high & 1 << 23 != 0 }
  private var rawLimit: UInt32 { high & 0xf_0000 | UInt32(truncatingIfNeeded: raw & 0xffff) }

  /// From 0 to the end of 32 bits.
  var isFlat: Bool { base == 0 && isInPages && rawLimit == 0xf_ffff }

  /// What a segment register has in it behind a load: the descriptor has been accessed.
  func segment(_ selector: UInt16) -> Segment {
    let descriptor = SegmentDescriptor(rawValue: raw)
    return Segment(
      selector: selector, base: UInt64(descriptor.base), limit: descriptor.limit,
      attributes: descriptor.attributes.union(.accessed).rawValue)
  }

  /// Where Xen's own entries begin.
  static let firstReserved: UInt64 = 14 * 512
  /// Where the hypervisor's part of 32 bits begins, beyond which no segment ends but by being made larger.
  private static let hypervisorStart32: UInt64 = 0xf580_0000

  /// What Xen would make of it; `nil` where it refuses it. Nothing is more privileged than the guest's kernel, and no gate
  /// leads elsewhere.
  func checked(is64Bit: Bool) -> DomainDescriptor? {
    guard isPresent else { return self }
    let kernelLevel: UInt8 = is64Bit ? 3 : 1
    let level = max(privilegeLevel, kernelLevel)
    var high = high & ~(3 << 13) | UInt32(level) << 13
    var low = UInt32(truncatingIfNeeded: raw)
    if isSegment {
      if !is64Bit {
        guard high & 1 << 21 == 0 else { return nil }
        let size = (UInt64(rawLimit) + 1) << (isInPages ? 12 : 0)
        if base == 0, size > Self.hypervisorStart32 {
          low |= 0xffff
          high |= 0xf_0000
        }
      }
    } else {
      switch high >> 8 & 0xf {
      // The second half of a call gate.
      case 0: return DomainDescriptor(UInt64(self.high) << 32 | UInt64(low))
      case 0xc:
        let selector = low >> 16
        let isGuests = UInt64(selector >> 3) < Self.firstReserved || selector & 4 != 0
        guard isGuests || UInt64(selector) == (is64Bit ? Selectors.code64 : Selectors.kernelCode32) else { return nil }
        // Level 0, so that using it traps; the selector keeps the level that it was given.
        high &= ~(3 << 13)
        low = low & 0xffff | (selector & ~3 | UInt32(level)) << 16
        guard high & (is64Bit ? 0xff : 0xe0) == 0 else { return nil }
      default: return nil
      }
    }
    return DomainDescriptor(UInt64(high) << 32 | UInt64(low))
  }
}
