// Segment registers as guest code loads them, done in its place: by iret, by set_segment_base, and where a processor begins. What is
// asked, and in which order, is the processor's (AMD64 APM vol. 3, "MOV", "IRET"); levels are those that the code runs with.

import TrivisorVMM
import TrivisorX86

/// Loads of a domain's processor.
struct SegmentLoads {
  let processor: DomainProcessor

  private var domain: Domain { processor.domain }
  private var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  /// Of code in this mode, as the processor knows it: under a hypervisor a 64-bit kernel is where its users are.
  private var privilegeLevel: UInt8 { processor.mode == .user || processor.layout == .bits64 ? 3 : 1 }

  /// What DS, ES, FS or GS holds behind a load of a selector.
  func loadData(_ selector: UInt16) throws(SegmentFault) -> Segment {
    guard !Selector(rawValue: selector).isNull else { return .nullData(selector) }
    let segment = try present(selector, absent: .segmentNotPresent) { rights in
      rights.isReadable
        && (rights.isConformingCode || max(privilegeLevel, UInt8(selector & 3)) <= rights.privilege)
    }
    noteAccessed(selector)
    return segment
  }

  /// What CS holds behind a return to a selector.
  func loadCode(_ selector: UInt16) throws(SegmentFault) -> Segment {
    guard !Selector(rawValue: selector).isNull else { throw SegmentFault(.generalProtection, 0) }
    let level = UInt8(selector & 3)
    let segment = try present(selector, absent: .segmentNotPresent) { rights in
      rights.isCode && (rights.isConformingCode ? rights.privilege <= level : rights.privilege == level)
    }
    if SegmentAttributes(rawValue: segment.attributes).contains([.long, .big]) {
      throw SegmentFault(.generalProtection, selector)
    }
    noteAccessed(selector)
    return segment
  }

  /// What SS holds behind a return of code to a selector.
  func loadStack(_ selector: UInt16) throws(SegmentFault) -> Segment {
    guard !Selector(rawValue: selector).isNull else { throw SegmentFault(.generalProtection, 0) }
    let segment = try present(selector, absent: .stack) { rights in
      rights.isWritable && rights.privilege == UInt8(selector & 3)
    }
    noteAccessed(selector)
    return segment
  }

  /// SEGBASE_GS_USER_SEL: GS of user code. A selector that can't be loaded counts as the null selector. The kernel that asks for
  /// it keeps its own base.
  func loadUserGS(_ selector: UInt16) {
    let wanted = Selector(rawValue: selector).isNull ? selector : selector | 3
    var segment = (try? loadData(wanted)) ?? .nullData(0)
    processor.otherGSBase = segment.base
    segment.base = registers.gsBase
    registers.segments.gs = segment
  }

  private func present(
    _ selector: UInt16, absent: ExceptionVector, _ isRight: (SegmentAttributes) -> Bool
  ) throws(SegmentFault) -> Segment {
    guard let found = processor.descriptor(selector) else { throw SegmentFault(.generalProtection, selector) }
    let segment = found.segment(selector)
    guard isRight(SegmentAttributes(rawValue: segment.attributes)) else {
      throw SegmentFault(.generalProtection, selector)
    }
    guard found.isPresent else { throw SegmentFault(absent, selector) }
    return segment
  }

  /// Its descriptor has been loaded. A local table may lie in any page, and a page table is not written to.
  func noteAccessed(_ selector: UInt16) {
    let position = UInt64(selector >> 3)
    guard let entry = selector & 4 != 0 ? localEntry(position) : globalEntry(position) else { return }
    let accessed = UInt64(SegmentAttributes.accessed.rawValue) << 40
    guard entry.pointee & accessed == 0 else { return }
    entry.pointee |= accessed
    domain.memory.frames.didStore(at: entry)
  }

  private func globalEntry(_ position: UInt64) -> UnsafeMutablePointer<UInt64>? {
    let frames = processor.descriptorFrames
    guard position < processor.descriptorCount, Int(position / 512) < frames.count else { return nil }
    return domain.memory.frames.entry(frames[Int(position / 512)], position % 512)
  }

  private func localEntry(_ position: UInt64) -> UnsafeMutablePointer<UInt64>? {
    let address = processor.localDescriptors &+ 8 &* position
    guard position < processor.localDescriptorCount,
      let leaf = domain.memory.tables.leaf(address, root: processor.kernelRoot), leaf.isPresent
    else { return nil }
    let frame = PageTables.frame(leaf.entry)
    guard domain.memory.tables.use(frame) == .descriptors || domain.memory.tables.isWritable(frame) else { return nil }
    return domain.memory.frames.entry(frame, address >> 3 & 511)
  }

  // MARK: The first instruction

  /// Begins with the registers that another processor has set up. Selectors that can't be loaded are null then, and the kernel's
  /// failsafe callback is told of them.
  func begin(with start: DomainRegisters) {
    registers = start
    guard domain.abilities.contains(.segments), processor.layout == .bits64 else { return }
    var isRight = true
    func load(_ register: WritableKeyPath<SegmentRegisters, Segment>, keepsBase: Bool) {
      let base = registers.segments[keyPath: register].base
      do throws(SegmentFault) {
        registers.segments[keyPath: register] = try loadData(registers.segments[keyPath: register].selector)
      } catch {
        registers.segments[keyPath: register] = .nullData(0)
        isRight = false
      }
      if keepsBase { registers.segments[keyPath: register].base = base }
    }
    // Their bases are registers of their own.
    load(\.fs, keepsBase: true)
    load(\.gs, keepsBase: true)
    load(\.ds, keepsBase: false)
    load(\.es, keepsBase: false)
    guard isRight else { return processor.delivery.failsafe(start) }
    TrapReturn(processor: processor).load(code: start.cs.selector, stack: start.ss.selector)
  }
}

extension Segment {
  /// DS, ES, FS or GS behind a load of a null selector: to be used in 64-bit code only.
  static func nullData(_ selector: UInt16) -> Segment {
    Segment(selector: selector, base: 0, limit: 0, attributes: 0, isUnusable: true)
  }
}
