import Testing
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

/// Descriptor tables that somebody keeps outside of the guest's memory: the tables' registers don't count.
@Suite("semantics: kept descriptor tables")
struct KeptDescriptorTests {
  private final class Keeper: DescriptorKeeper {
    var entries: [UInt16: SegmentDescriptor] = [:]

    func descriptor(_ selector: UInt16) -> UInt64? { entries[selector & ~3]?.rawValue }
    func noteAccessed(_ selector: UInt16) { entries[selector & ~3]?.attributes.insert(.accessed) }
  }

  private enum Select {
    static let data: UInt16 = 0x1003, local: UInt16 = 0x1007, code: UInt16 = 0x100f, gate: UInt16 = 0x1013
    static let absent: UInt16 = 0x101b, outside: UInt16 = 0x2003
  }

  private static let base: UInt32 = 0x1_2000

  private func makeContext(_ mode: CPUMode) -> (PlainContext, Keeper) {
    let (context, keeper) = (PlainContext(mode), Keeper())
    let user: SegmentAttributes = .present(privilege: 3).union([.codeOrData, .writable, .big])
    func define(_ selector: UInt16, at base: UInt32 = 0, _ rights: SegmentAttributes) {
      keeper.entries[selector & ~3] = SegmentDescriptor(base: base, limit: 0xfff, attributes: rights)
    }
    define(Select.data, at: Self.base, user)
    define(Select.local, user.subtracting(.writable))
    define(Select.code, at: Self.base, user.union(.code))
    // Of level 0, with no second half.
    define(Select.gate, .system(.callGate))
    define(Select.absent, user.subtracting(.present))
    context.descriptorKeeper = keeper
    (context.gdt.limit, context.cpl) = (0, 3)
    context.setSegment(
      .cs, mode == .bits64 ? .flatCode64(selector: Select.code) : .flatCode32(selector: Select.code))
    context[.rsp] = 0xa000
    return (context, keeper)
  }

  @Test("loads take what the keeper has, and tell it", arguments: [CPUMode.bits32, .bits64])
  func loads(mode: CPUMode) {
    let (context, keeper) = makeContext(mode)
    func load(_ selector: UInt16) -> GuestException? {
      context[.rax] = UInt64(selector)
      // mov %eax, %fs
      return context.run([0x8e, 0xe0])?.exception
    }
    #expect(load(Select.data) == nil)
    let segment = context.segment(.fs)
    #expect(segment.selector == Select.data && segment.base == UInt64(Self.base) && segment.limit == 0xfff)
    #expect(
      segment.rights.contains(.accessed) && keeper.entries[Select.data & ~3]?.attributes.contains(.accessed) == true)
    #expect(load(Select.local) == nil && load(Select.code) == nil)
    #expect(load(Select.absent) == .notPresent(UInt32(Select.absent & ~3)))
    for selector in [Select.outside, Select.gate] { #expect(load(selector) == .general(UInt32(selector & ~3))) }
    #expect(context.segment(.fs).selector == Select.code)
    #expect(load(2) == nil && context.segment(.fs).isUnusable)
  }

  @Test("questions are answered from them")
  func queries() {
    let (context, _) = makeContext(.bits64)
    // lsl %eax, %ecx; verw %ax
    for (selector, limit, isWritable) in [
      (Select.data, 0xfff as UInt64?, true), (Select.local, 0xfff, false), (Select.outside, nil, false),
      (Select.gate, nil, false),
    ] {
      (context[.rax], context[.rcx]) = (UInt64(selector), 0)
      #expect(context.run([0x0f, 0x03, 0xc8]) == nil)
      #expect(context.arithmeticFlags.contains(.zero) == (limit != nil) && context[.rcx] == limit ?? 0)
      #expect(context.run([0x0f, 0x00, 0xe8]) == nil)
      #expect(context.arithmeticFlags.contains(.zero) == isWritable)
    }
  }

  @Test("far jumps go to their segments; a gate of an inner level, or without its second half, is a fault")
  func jumps() {
    let (context, _) = makeContext(.bits32)
    // ljmp $selector, $0x10
    func jump(_ selector: UInt16) -> GuestException? {
      context.run([0xea, 0x10, 0, 0, 0, UInt8(truncatingIfNeeded: selector), UInt8(selector >> 8)])?.exception
    }
    #expect(jump(Select.code) == nil)
    #expect(context.rip == 0x10 && context.segment(.cs).base == UInt64(Self.base))
    context.rip = 0x1000
    #expect(jump(Select.gate) == .general(UInt32(Select.gate & ~3)))
    #expect(jump(Select.outside) == .general(UInt32(Select.outside & ~3)))
  }
}
