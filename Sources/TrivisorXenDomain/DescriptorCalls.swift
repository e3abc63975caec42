// Hypercalls about segment descriptors.

import TrivisorVMM

struct DescriptorCalls: HypercallSubject {
  let call: Hypercall

  /// HYPERVISOR_set_gdt: frames, and how many entries.
  func setDescriptorTable() throws(XenError) {
    let (list, count) = (arguments[0], arguments[1] & 0xffff_ffff)
    guard count <= DomainDescriptor.firstReserved else { throw .invalid }
    var frames: [UInt64] = []
    for position in 0..<((count + 511) / 512) {
      frames.append(try long(list &+ layout.wordSize &* position))
    }
    try processor.setDescriptorTable(frames, count: count)
  }

  /// HYPERVISOR_update_descriptor: machine address, and the descriptor. Any page that may be written will do.
  func updateDescriptor() throws(XenError) {
    let address = layout == .bits64 ? arguments[0] : arguments[0] | arguments[1] << 32
    let raw = layout == .bits64 ? arguments[1] : arguments[2] | arguments[3] << 32
    let frame = address >> 12
    guard address & 7 == 0, let descriptor = DomainDescriptor(raw).checked(is64Bit: layout == .bits64),
      tables.use(frame) == .descriptors || tables.isWritable(frame), let entry = frames.entry(frame, address >> 3 & 511)
    else { throw .invalid }
    entry.pointee = descriptor.raw
    frames.didStore(at: entry)
  }
}
