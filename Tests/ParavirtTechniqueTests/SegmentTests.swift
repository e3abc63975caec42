import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorXenDomain

/// Segment registers of a domain whose executor has all of them: what iret, set_segment_base and a processor's start load, and what
/// they raise.
struct SegmentTests {
  private typealias Descriptor = SegmentDescriptor

  /// set_segment_base, iret, set_gdt, mmuext_op and vcpu_op, by their numbers.
  private enum Call {
    static let setDescriptorTable: UInt64 = 2, iret: UInt64 = 23, processorOperation: UInt64 = 24
    static let setSegmentBase: UInt64 = 25, extendedPaging: UInt64 = 26
  }

  /// Where the test's tables, frames and stacks are, in pages of the kernel.
  private enum Page {
    static let global: UInt64 = 20, local: UInt64 = 21, frame: UInt64 = 22, list: UInt64 = 23, stack: UInt64 = 25
  }

  private static let handler: UInt64 = 0x1234_0000
  private static let place: UInt64 = 0x40_1000
  private static let base: UInt32 = 0x1234_5000

  /// Entries of the local table.
  private enum Entry: UInt64, CaseIterable {
    case data = 1, readOnly, absentData, code32, code16, absentCode, reservedCode, code64

    var selector: UInt64 { rawValue << 3 | 7 }
    var descriptor: Descriptor {
      let user = SegmentAttributes.present(privilege: 3).union(.codeOrData)
      let code = user.union([.code, .readable])
      return switch self {
      case .data: Descriptor(base: SegmentTests.base, limit: 0xfff, attributes: user.union([.writable, .big]))
      case .readOnly: Descriptor(base: 0, limit: 0xff, attributes: user)
      case .absentData: Descriptor(base: 0, limit: 0xff, attributes: user.union(.writable).subtracting(.present))
      case .code32: Descriptor(base: SegmentTests.base, limit: 0xffff, attributes: code.union(.big))
      case .code16: Descriptor(base: 0, limit: 0xffff, attributes: code)
      case .absentCode: Descriptor(base: 0, limit: 0xffff, attributes: code.subtracting(.present))
      case .reservedCode: Descriptor(base: 0, limit: 0xffff, attributes: code.union([.long, .big]))
      case .code64: Descriptor(base: 0, limit: 0xffff, attributes: code.union(.long))
      }
    }
  }

  /// A domain with a local table of these entries, and a handler for every exception.
  private func makeHarness() throws -> DomainHarness {
    let harness = try DomainHarness(is64Bit: true)
    harness.domain.abilities = .segments
    for entry in Entry.allCases {
      try harness.store(entry.descriptor.rawValue, harness.address(Page.local) + 8 * entry.rawValue)
    }
    let setLocalTable: UInt32 = 13
    try harness.store(setLocalTable, harness.address(Page.list))
    try harness.store(harness.address(Page.local), harness.address(Page.list) + 8)
    try harness.store(UInt64(512), harness.address(Page.list) + 16)
    let own: UInt64 = 0x7ff0
    #expect(harness.call(Call.extendedPaging, harness.address(Page.list), 1, 0, own) == 0)
    for vector in 0..<32 { harness.processor.traps[vector].address = Self.handler }
    return harness
  }

  /// HYPERVISOR_iret within the kernel, with a frame of these segments.
  private func returns(
    _ harness: DomainHarness, code: UInt64, stack: UInt64, bySystemCall: Bool = false
  ) throws -> DomainRegisters {
    let frame = harness.address(Page.frame)
    let inSystemCall: UInt64 = 0x100
    let words: [UInt64] = [
      0, 0, 0, bySystemCall ? inSystemCall : 0, Self.place, code & ~3, RFLAGS.interrupt.rawValue,
      harness.address(Page.stack), stack,
    ]
    for (position, word) in words.enumerated() { try harness.store(word, frame + 8 * UInt64(position)) }
    harness.processor.registers.rsp = frame
    harness.call(Call.iret)
    return harness.processor.registers
  }

  @Test("iret loads code and stack of the guest's tables, whatever their base, limit and width")
  func loads() throws {
    for code in [Entry.code16, .code32, .code64] {
      let harness = try makeHarness()
      let registers = try returns(harness, code: code.selector, stack: Entry.data.selector)
      #expect(registers.rip == Self.place)
      #expect(registers.cs == DomainDescriptor(code.descriptor.rawValue).segment(UInt16(code.selector)))
      #expect(registers.ss == DomainDescriptor(Entry.data.descriptor.rawValue).segment(UInt16(Entry.data.selector)))
      #expect(registers.isIn64BitCode == (code == .code64))
      let raw = try harness.load(UInt64.self, harness.address(Page.local) + 8 * code.rawValue)
      #expect(Descriptor(rawValue: raw).attributes.contains(.accessed))
    }
  }

  @Test("what iret can't load is an exception of the instruction that was to be next")
  func refuses() throws {
    typealias Case = (code: UInt64, stack: UInt64, vector: UInt64, errorCode: UInt64)
    let (flat, data) = (Selectors.code64, Selectors.data64)
    func error(_ entry: Entry) -> UInt64 { entry.selector & ~3 }
    let cases: [Case] = [
      (3, data, 13, 0), (Entry.data.selector, data, 13, error(.data)), (flat, 3, 13, 0),
      (Entry.absentCode.selector, data, 11, error(.absentCode)),
      (Entry.reservedCode.selector, data, 13, error(.reservedCode)),
      (flat, Entry.readOnly.selector, 13, error(.readOnly)), (flat, Entry.absentData.selector, 12, error(.absentData)),
      (flat, Entry.code32.selector, 13, error(.code32)), (flat, 0x4243, 13, 0x4240), (0xffff, data, 13, 0xfffc),
    ]
    for each in cases {
      let harness = try makeHarness()
      for vector in 0..<32 { harness.processor.traps[vector].address = Self.handler + UInt64(vector) << 4 }
      let registers = try returns(harness, code: each.code, stack: each.stack)
      #expect(registers.rip == Self.handler + each.vector << 4, "\(each)")
      // RCX, R11, the error code, RIP, CS, RFLAGS, RSP, SS.
      let words = try (0..<8).map { try harness.load(UInt64.self, registers.rsp + 8 * $0) }
      #expect(words[2] == each.errorCode && words[3] == Self.place, "\(each)")
      #expect(words[4] & 0xfffc == each.code & 0xfffc && words[7] == each.stack | 3, "\(each)")
    }
  }

  @Test("behind a system call the segments are SYSRET's")
  func systemCall() throws {
    let harness = try makeHarness()
    let registers = try returns(
      harness, code: Entry.code32.selector, stack: Entry.data.selector, bySystemCall: true)
    #expect(UInt64(registers.cs.selector) == Selectors.code64 && UInt64(registers.ss.selector) == Selectors.data64)
    let narrow = try returns(harness, code: Selectors.code32, stack: 0, bySystemCall: true)
    #expect(UInt64(narrow.cs.selector) == Selectors.code32 && !narrow.isIn64BitCode)
  }

  @Test("set_segment_base loads GS of user code, and null where it can't; the kernel's base stays")
  func userSelector() throws {
    let harness = try makeHarness()
    let kernelBase: UInt64 = 0x7654_0000
    #expect(harness.call(Call.setSegmentBase, 2, kernelBase) == 0)
    for (wanted, selector, base) in [
      (Entry.data.selector & ~3, Entry.data.selector, UInt64(Self.base)), (2, 2, 0), (Entry.absentData.selector, 0, 0),
      (Selectors.data64, Selectors.data64, 0), (0x4242, 0, 0),
    ] {
      #expect(harness.call(Call.setSegmentBase, 3, wanted) == 0)
      let processor = harness.processor
      #expect(UInt64(processor.registers.segments.gs.selector) == selector && processor.otherGSBase == base)
      #expect(processor.registers.gsBase == kernelBase && processor.registers.segments.gs.isUnusable == (selector < 4))
    }
  }

  @Test("data segments that a new processor can't load are null, and its failsafe callback is told of them")
  func failsafe() throws {
    let harness = try makeHarness()
    let processor = harness.domain.processors[1]
    processor.kernelRoot = harness.processor.kernelRoot
    processor.failsafeCallback = .init(address: Self.handler, masksUpcalls: true)
    var start = DomainRegisters()
    (start.rip, start.rsp) = (Self.place, harness.address(Page.stack))
    start.segments.ds.selector = UInt16(Selectors.data64)
    start.segments.es.selector = 0x4243
    start.segments.gs.selector = 2
    (start.fsBase, start.gsBase) = (0x1000, 0x2000)
    processor.loads.begin(with: start)
    let registers = processor.registers
    #expect(registers.rip == Self.handler && processor.upcallsAreMasked)
    #expect(UInt64(registers.segments.ds.selector) == Selectors.data64 && !registers.segments.ds.isUnusable)
    #expect(registers.segments.es.selector == 0 && registers.segments.es.isUnusable)
    #expect((registers.fsBase, registers.gsBase) == (0x1000, 0x2000))
    // RCX, R11, DS, ES, FS, GS, RIP, CS, RFLAGS, RSP, SS.
    let words = try (0..<11).map { try harness.load(UInt64.self, registers.rsp + 8 * $0) }
    #expect(words[2...6] == [Selectors.data64, 0x4243, 0, 2, Self.place])
    #expect(words[7] & 0xffff == Selectors.code64 & ~3 && words[9] == harness.address(Page.stack))
  }

  @Test("an accessed bit is not set in a local table that is a page table")
  func pageTable() throws {
    let harness = try makeHarness()
    let processor = harness.processor
    let root = processor.kernelRoot
    let table = try #require(harness.domain.memory.tables.leaf(harness.address(0), root: root)?.table)
    let page = try #require(
      (0..<DomainHarness.pageCount + 64).map { harness.address($0) }.first {
        harness.domain.memory.tables.leaf($0, root: root).map { PageTables.frame($0.entry) == table } ?? false
      })
    let before = try (0..<512).map { try harness.load(UInt64.self, page + 8 * $0) }
    (processor.localDescriptors, processor.localDescriptorCount) = (page, 512)
    for index in 0..<512 as Range<UInt16> { processor.loads.noteAccessed(index << 3 | 7) }
    #expect(try (0..<512).map { try harness.load(UInt64.self, page + 8 * $0) } == before)
  }
}
