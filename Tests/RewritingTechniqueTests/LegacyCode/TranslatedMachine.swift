import TrivisorCTracedProcess
import TrivisorInstructionSet
import TrivisorVMM

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// A processor of the engine at CPL 3 under a kernel that only notes exceptions: each handler writes to a port.
final class TranslatedMachine {
  private final class NotePort: PortDevice {
    func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }
    func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect { .stop(.exited(code: 0)) }
  }

  /// Physical, and where they are not the guest's: linear.
  private enum Place {
    static let gdt: UInt64 = 0x1000, ldt: UInt64 = 0x1400, idt: UInt64 = 0x2000, task: UInt64 = 0x3000
    static let stack: UInt64 = 0x5000, handlers: UInt64 = 0x6000
    static let tables: UInt64 = 0x1_0000
    static let area: UInt64 = 0x20_0000
  }

  let memory: UnsafeMutableRawPointer
  private let guest: GuestMemory
  private let partition: RewritingPartition
  private let processor: RewritingProcessor
  private var initial = MachineState()

  init() throws {
    guest = try GuestMemory(size: 8 << 20)
    let bus = try Bus(ports: [.init("note", base: 0xf4, count: 1, device: NotePort())])
    let technique = RewritingTechnique()
    var configuration = MachineConfiguration()
    configuration.memorySize = guest.size
    let made = try technique.makePartition(configuration, memory: guest, bus: bus)
    guard let partition = made as? RewritingPartition,
      let processor = try partition.makeProcessor(index: 0) as? RewritingProcessor,
      let memory = guest.host(GuestPhysicalAddress(Place.area), count: LegacyCodeLayout.size)
    else { throw TechniqueFailure(call: "making the machine", reason: "of another kind") }
    self.partition = partition
    self.processor = processor
    self.memory = memory
    try writeTables()
    try writePages()
    prepareState()
  }

  private func write(_ value: UInt64, _ place: UInt64) throws {
    try guest.write(value, at: GuestPhysicalAddress(place))
  }

  private func writeTables() throws {
    // As Linux has them: 32-bit and 64-bit kernel code, kernel data, 32-bit user code, user data, 64-bit user code.
    let descriptors: [UInt64] = [
      0, 0x00cf_9b00_0000_ffff, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_fb00_0000_ffff,
      0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff,
    ]
    for (index, descriptor) in descriptors.enumerated() { try write(descriptor, Place.gdt + 8 * UInt64(index)) }
    for segment in LegacyCodeLayout.segments {
      try write(segment.descriptor, Place.ldt + 8 * UInt64(segment.index))
    }
    try write(Place.stack, Place.task + 4)
    // No permission bitmap.
    try write(0x68 << 48, Place.task + 0x60)
    for vector in UInt64(0)..<32 {
      let handler = Place.handlers + 16 * vector
      let privilege: UInt64 = vector == 3 || vector == 4 ? 0xee : 0x8e
      try write(handler & 0xffff | 0x10 << 16 | privilege << 40 | (handler >> 16) << 48, Place.idt + 16 * vector)
      // out %al, $0xf4
      try write(0xf4e6, handler)
    }
  }

  private func writePages() throws {
    let tables = Place.tables
    try write(tables + 0x1007, tables)
    try write(tables + 0x2007, tables + 0x1000)
    // 2 MiB for the kernel, and the area's pages.
    try write(0x83, tables + 0x2000)
    try write(tables + 0x3007, tables + 0x2000 + 8 * (LegacyCodeLayout.code >> 21))
    for range in LegacyCodeLayout.ranges where range.protection != 0 {
      for page in stride(from: range.base, to: range.base + range.size, by: 4096) {
        let physical = Place.area + page - LegacyCodeLayout.code
        let noExecute: UInt64 = range.protection & 4 != 0 ? 0 : 1 << 63
        try write(
          physical | noExecute | (range.protection & 2 != 0 ? 7 : 5), tables + 0x3000 + 8 * (page >> 12 & 0x1ff))
      }
    }
  }

  private func prepareState() {
    initial.system.cr0 = 0x8005_0033
    initial.system.cr3 = Place.tables
    // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE.
    initial.system.cr4 = 0x4_0620
    initial.system.efer = 0xd01
    initial.system.gdt = DescriptorTable(base: Place.gdt, limit: 55)
    initial.system.idt = DescriptorTable(base: Place.idt, limit: 511)
    initial.system.ldt = Segment(selector: 0x50, base: Place.ldt, limit: 8 * 11 - 1, attributes: 0x82)
    initial.system.task = Segment(selector: 0x40, base: Place.task, limit: 0x67, attributes: 0x8b)
    initial.extended.xcr0 = 7
  }

  private func segment(_ selector: UInt16) -> TrivisorVMM.Segment {
    switch selector {
    case LegacyCodeLayout.flatCode32:
      return Segment(selector: selector, base: 0, limit: .max, attributes: 0xc0fb)
    case LegacyCodeLayout.flatData:
      return Segment(selector: selector, base: 0, limit: .max, attributes: 0xc0f3)
    case LegacyCodeLayout.code64:
      return Segment(selector: selector, base: 0, limit: .max, attributes: 0xa0fb)
    default:
      guard let found = LegacyCodeLayout.segments.first(where: { $0.selector == selector }) else {
        return Segment(selector: selector, base: 0, limit: 0, attributes: 0, isUnusable: true)
      }
      return Descriptor(low: found.descriptor).segment(selector)
    }
  }

  func announces(_ feature: Feature) -> Bool { processor.engine.store.translator.announced.contains(feature) }

  /// To be called when the area's bytes were changed from outside.
  func forgetCode() {
    processor.engine.store.invalidate(Place.area, count: Int(LegacyCodeLayout.codeSize))
  }

  /// - Returns: the end, or what the engine refused.
  func run(_ start: LegacyCodeState) throws -> (LegacyCodeState, LegacyCodeEnd?, String) {
    var state = initial
    setGeneral(start.general, &state)
    (state.general.rip, state.general.rflags) = (start.rip, start.flags)
    let segments = start.selectors.map(segment)
    (state.system.es, state.system.cs, state.system.ss) = (segments[0], segments[1], segments[2])
    (state.system.ds, state.system.fs, state.system.gs) = (segments[3], segments[4], segments[5])
    state.extended.area = start.floating + [UInt8](repeating: 0, count: 320)
    state.extended.area[512] = 7
    try processor.writeState(state)
    let reason = try processor.run()
    let end = try processor.readState()
    var result = LegacyCodeState()
    result.general = general(end)
    result.floating = Array(end.extended.area.prefix(512))
    let system = end.system
    result.selectors = [
      system.es.selector, 0, 0, system.ds.selector, system.fs.selector, system.gs.selector,
    ]
    guard case .exited = reason else {
      if case .crashed(let report) = reason { return (end: result, nil, report.summary) }
      return (result, nil, "\(reason)")
    }
    // The handler's frame has the rest.
    let vector = (end.general.rip - Place.handlers) / 16
    var frame = end.general.rsp
    if [8, 10, 11, 12, 13, 14, 17].contains(vector) { frame += 8 }
    func word(_ index: UInt64) throws -> UInt64 {
      try guest.read(UInt64.self, at: GuestPhysicalAddress(frame + 8 * index))
    }
    result.rip = try word(0)
    result.selectors[1] = UInt16(truncatingIfNeeded: try word(1))
    result.flags = try word(2)
    result.general[4] = try word(3)
    result.selectors[2] = UInt16(truncatingIfNeeded: try word(4))
    let signals: [UInt64: Int32] = [
      0: 8, 1: 5, 3: 5, 4: 11, 5: 11, 6: 4, 7: 11, 10: 11, 11: 7, 12: 7, 13: 11, 14: 11, 16: 8, 17: 7, 19: 8,
    ]
    return (
      result, LegacyCodeEnd(signal: signals[vector] ?? -1, address: vector == 14 ? system.cr2 : nil), ""
    )
  }

  private func setGeneral(_ values: [UInt64], _ state: inout MachineState) {
    state.general.rax = values[0]
    state.general.rcx = values[1]
    state.general.rdx = values[2]
    state.general.rbx = values[3]
    state.general.rsp = values[4]
    state.general.rbp = values[5]
    state.general.rsi = values[6]
    state.general.rdi = values[7]
    state.general.r8 = values[8]
    state.general.r9 = values[9]
    state.general.r10 = values[10]
    state.general.r11 = values[11]
    state.general.r12 = values[12]
    state.general.r13 = values[13]
    state.general.r14 = values[14]
    state.general.r15 = values[15]
  }

  private func general(_ state: MachineState) -> [UInt64] {
    let values = state.general
    return [
      values.rax, values.rcx, values.rdx, values.rbx, values.rsp, values.rbp, values.rsi, values.rdi, values.r8,
      values.r9, values.r10, values.r11, values.r12, values.r13, values.r14, values.r15,
    ]
  }
}
