// Segments of a domain's processor. Natively run code has the host's descriptor table, so a domain's own is kept, checked
// and protected as Xen does it, and looked at when a selector of it traps: see `SegmentEmulation`.

import TrivisorVMM
import TrivisorX86

extension DomainProcessor {
  /// Its descriptor table: frames, which become tables of descriptors.
  func setDescriptorTable(_ frames: [UInt64], count: UInt64) throws(XenError) {
    // What a page holds is checked now: nobody may be able to write to it any more.
    domain.memory.removeStaleTranslations()
    for (position, frame) in frames.enumerated() {
      do throws(XenError) {
        try domain.memory.tables.getDescriptors(frame)
      } catch {
        for earlier in frames[..<position] { domain.memory.tables.put(earlier) }
        throw .invalid
      }
    }
    for frame in descriptorFrames { domain.memory.tables.put(frame) }
    descriptorFrames = frames
    descriptorCount = count
  }

  /// MMUEXT_SET_LDT. As on Xen, its entries are looked at when they are used.
  func setLocalDescriptorTable(_ address: UInt64, count: UInt64) throws(XenError) {
    let count = count & 0xffff_ffff
    guard count <= 8192, count == 0 || address & 4095 == 0 && LinearAddress.isCanonical(address) else { throw .invalid }
    localDescriptors = count == 0 ? 0 : address
    localDescriptorCount = count
  }

  /// The descriptor that a selector names in the guest's own tables, or in Xen's part of the global one.
  func descriptor(_ selector: UInt16) -> DomainDescriptor? {
    let position = UInt64(selector >> 3)
    if selector & 4 == 0, position >= DomainDescriptor.firstReserved { return Selectors.descriptor(selector, layout) }
    let raw: UInt64?
    if selector & 4 != 0 {
      guard position < localDescriptorCount else { return nil }
      raw = try? read(
        UInt64.self, localDescriptors &+ 8 &* position, root: kernelRoot)
    } else {
      guard position < descriptorCount, Int(position / 512) < descriptorFrames.count else {
        return nil
      }
      raw = domain.memory.frames.entry(descriptorFrames[Int(position / 512)], position % 512)?.pointee
    }
    // A page of the local table has not been checked.
    return raw.flatMap { DomainDescriptor($0).checked(is64Bit: layout == .bits64) }
  }

  /// A segment that DS, ES, FS, GS may have: one of the guest's, or Xen's flat one, which 64-bit guests have with base 0.
  func dataSegment(_ selector: UInt16) -> DomainDescriptor? {
    if UInt64(selector) | 3 == Selectors.data64 { return DomainDescriptor(0x00cf_f300_0000_ffff) }
    guard let segment = descriptor(selector), segment.isPresent, segment.isSegment, segment.isReadable,
      segment.privilegeLevel == 3
    else { return nil }
    return segment
  }

  /// Which of Xen's flat segments is like a code segment of a 64-bit domain; `nil` for one that can't be run.
  func flatCode(_ selector: UInt16) -> UInt64? {
    let user = UInt64(selector) | Selectors.level
    if user == Selectors.code64 || user == Selectors.code32 { return user }
    guard let segment = descriptor(selector), segment.isPresent, segment.isSegment, segment.isCode,
      segment.privilegeLevel == 3
    else { return nil }
    if segment.is64BitCode { return segment.is32Bit ? nil : Selectors.code64 }
    return segment.is32Bit && segment.isFlat ? Selectors.code32 : nil
  }
}
