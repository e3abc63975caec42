// Segment descriptors. Natively run code has the host's descriptor table, so a guest's own is kept, checked and protected as
// Xen does it, and looked at when a selector of it traps: see `emulateSegments`.

import VMM

extension Domain {
  /// HYPERVISOR_set_gdt: frames, and how many entries.
  func setDescriptorTable(_ context: HypercallContext) throws(XenError) {
    let (list, count) = (context.arguments[0], context.arguments[1] & 0xffff_ffff)
    guard count <= SegmentDescriptor.firstReserved else { throw .invalid }
    var frames: [UInt64] = []
    for position in 0..<((count + 511) / 512) {
      frames.append(try long(list &+ layout.wordSize &* position, context))
    }
    try setDescriptorTable(frames, count: count, context.processor)
  }

  func setDescriptorTable(_ frames: [UInt64], count: UInt64, _ processor: VirtualProcessor) throws(XenError) {
    // What a page holds is checked now: nobody may be able to write to it any more.
    removeStaleTranslations()
    for (position, frame) in frames.enumerated() {
      do throws(XenError) {
        try tables.getDescriptors(frame)
      } catch {
        for earlier in frames[..<position] { tables.put(earlier) }
        throw .invalid
      }
    }
    for frame in processor.descriptorFrames { tables.put(frame) }
    processor.descriptorFrames = frames
    processor.descriptorCount = count
  }

  /// HYPERVISOR_update_descriptor: machine address, and the descriptor. Any page that may be written will do.
  func updateDescriptor(_ context: HypercallContext) throws(XenError) {
    let a = context.arguments
    let address = layout == .bits64 ? a[0] : a[0] | a[1] << 32
    let raw = layout == .bits64 ? a[1] : a[2] | a[3] << 32
    let frame = address >> 12
    guard address & 7 == 0, let descriptor = SegmentDescriptor(raw).checked(is64Bit: layout == .bits64),
      tables.use(frame) == .descriptors || tables.isWritable(frame), let entry = frames.entry(frame, address >> 3 & 511)
    else { throw .invalid }
    entry.pointee = descriptor.raw
  }

  /// MMUEXT_SET_LDT. As on Xen, its entries are looked at when they are used.
  func setLocalDescriptorTable(
    _ address: UInt64, count: UInt64, _ processor: VirtualProcessor
  ) throws(XenError) {
    let count = count & 0xffff_ffff
    guard count <= 8192, count == 0 || address & 4095 == 0 && isCanonical(address) else { throw .invalid }
    processor.localDescriptors = count == 0 ? 0 : address
    processor.localDescriptorCount = count
  }

  /// The descriptor that a selector names in the guest's own tables.
  func descriptor(_ selector: UInt16, _ processor: VirtualProcessor) -> SegmentDescriptor? {
    let position = UInt64(selector >> 3)
    let raw: UInt64?
    if selector & 4 != 0 {
      guard position < processor.localDescriptorCount else { return nil }
      raw = try? read(
        UInt64.self, processor.localDescriptors &+ 8 &* position, root: processor.kernelRoot)
    } else {
      guard position < processor.descriptorCount, Int(position / 512) < processor.descriptorFrames.count else {
        return nil
      }
      raw = frames.entry(processor.descriptorFrames[Int(position / 512)], position % 512)?.pointee
    }
    // A page of the local table has not been checked.
    return raw.flatMap { SegmentDescriptor($0).checked(is64Bit: layout == .bits64) }
  }

  /// A segment that DS, ES, FS, GS may have: one of the guest's, or Xen's flat one, which 64-bit guests have with base 0.
  func dataSegment(_ selector: UInt16, _ processor: VirtualProcessor) -> SegmentDescriptor? {
    if UInt64(selector) | 3 == Selectors.data64 { return SegmentDescriptor(0x00cf_f300_0000_ffff) }
    guard let segment = descriptor(selector, processor), segment.isPresent, segment.isSegment, segment.isReadable,
      segment.privilegeLevel == 3
    else { return nil }
    return segment
  }

  /// The host's selector for a code segment of a 64-bit guest; `nil` for one that can't be run here.
  func hostCodeSelector(_ selector: UInt16, _ processor: VirtualProcessor) -> UInt16? {
    switch UInt64(selector) | 3 {
    case Selectors.code64: return Selectors.hostCode64
    case Selectors.code32: return Selectors.hostCode32
    default:
      guard let segment = descriptor(selector, processor), segment.isPresent, segment.isSegment, segment.isCode,
        segment.privilegeLevel == 3
      else { return nil }
      if segment.is64BitCode { return segment.is32Bit ? nil : Selectors.hostCode64 }
      return segment.is32Bit && segment.isFlat ? Selectors.hostCode32 : nil
    }
  }
}
