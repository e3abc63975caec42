import CKVM
import TrivisorVMM
import TrivisorX86

/// A processor between two instructions and what it can reach, for looking at its code and tables.
struct GuestView {
  let general: GeneralRegisters
  let system: SystemRegisters
  private let memory: GuestMemory

  init(_ processor: KVMProcessor) throws(TechniqueFailure) {
    var regs = kvm_regs()
    _ = try kvm("KVM_GET_REGS", kvm_get_regs(processor.descriptor.raw, &regs))
    general = GeneralRegisters(regs)
    var sregs = kvm_sregs()
    _ = try kvm("KVM_GET_SREGS", kvm_get_sregs(processor.descriptor.raw, &sregs))
    system = SystemRegisters(sregs)
    memory = processor.partition.memory
  }

  var isLongMode: Bool { EFER(rawValue: system.efer).contains(.longModeActive) }
  var is64Bit: Bool { isLongMode && SegmentAttributes(rawValue: system.cs.attributes).contains(.long) }
  var linearRIP: UInt64 { is64Bit ? general.rip : (system.cs.base &+ general.rip) & UInt64(UInt32.max) }
  var flags: RFLAGS { RFLAGS(rawValue: general.rflags) }

  /// Where a stack operand is.
  func stack(_ offset: UInt64 = 0) -> UInt64 {
    if is64Bit { return general.rsp &+ offset }
    let isBig = SegmentAttributes(rawValue: system.ss.attributes).contains(.big)
    let pointer = (general.rsp &+ offset) & (isBig ? UInt64(UInt32.max) : 0xffff)
    return (system.ss.base &+ pointer) & UInt64(UInt32.max)
  }

  func walk(_ linear: UInt64) -> PageWalk {
    PageWalk(linear, system) { try? memory.read(UInt64.self, at: GuestPhysicalAddress($0)) }
  }

  /// Where a linear address is in RAM.
  func physical(_ linear: UInt64) -> UInt64? { walk(linear).physical }

  func byte(_ linear: UInt64) -> UInt8? {
    physical(linear).flatMap { try? memory.read(UInt8.self, at: GuestPhysicalAddress($0)) }
  }

  /// Little endian, of 1 to 8 bytes, which may lie in two pages.
  func load(_ linear: UInt64, count: Int) -> UInt64? {
    var value: UInt64 = 0
    for position in 0..<count {
      guard let byte = byte(linear &+ UInt64(position)) else { return nil }
      value |= UInt64(byte) << UInt64(8 * position)
    }
    return value
  }

  func store(_ value: UInt8, at linear: UInt64) {
    guard let physical = physical(linear) else { return }
    try? memory.write(value, at: GuestPhysicalAddress(physical))
  }

  /// Linear address of a vector's handler (AMD64 APM vol. 2, 4.8.3, 4.8.4 and 8.2).
  func handler(_ vector: Int) -> UInt64? {
    let table = system.idt
    if !CR0(rawValue: system.cr0).contains(.protectedMode) {
      guard let entry = load(table.base &+ UInt64(4 * vector), count: 4) else { return nil }
      return (entry >> 16) << 4 &+ entry & 0xffff
    }
    let size = isLongMode ? 16 : 8
    let place = UInt64(size * vector)
    guard place + UInt64(size) <= UInt64(table.limit) + 1, let gate = load(table.base &+ place, count: 8),
      gate >> 47 & 1 != 0
    else { return nil }
    let type = gate >> 40 & 15
    var offset = gate & 0xffff | gate >> 32 & 0xffff_0000
    if isLongMode {
      guard let upper = load(table.base &+ place &+ 8, count: 4) else { return nil }
      return offset | upper << 32
    }
    // Task gates lead elsewhere; 16-bit gates have 16 bits.
    switch type {
    case 6, 7: offset &= 0xffff
    case 14, 15: break
    default: return nil
    }
    return segmentBase(UInt16(truncatingIfNeeded: gate >> 16)).map { ($0 &+ offset) & UInt64(UInt32.max) }
  }

  private func segmentBase(_ selector: UInt16) -> UInt64? {
    let base = selector & 4 == 0 ? system.gdt.base : system.ldt.base
    guard let descriptor = load(base &+ UInt64(selector & ~7), count: 8) else { return nil }
    return descriptor >> 16 & 0xff_ffff | (descriptor >> 56) << 24
  }
}
