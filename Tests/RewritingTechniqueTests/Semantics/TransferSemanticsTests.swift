import TrivisorInstructionSet
import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

@Suite("semantics: segments, far transfers, delivery")
struct TransferSemanticsTests {
  /// Selectors of the table below.
  private enum Select {
    static let code32: UInt16 = 0x08, data: UInt16 = 0x10, code64: UInt16 = 0x18, userData: UInt16 = 0x23
    static let userCode32: UInt16 = 0x2b, userCode64: UInt16 = 0x33, readOnly: UInt16 = 0x38, absent: UInt16 = 0x40
    static let conforming: UInt16 = 0x48, gate: UInt16 = 0x50
  }

  private func makeContext(_ mode: CPUMode) -> PlainContext {
    let context = PlainContext(mode)
    let flat: UInt32 = 0xf_ffff
    func define(_ selector: UInt16, _ rights: SegmentAttributes) {
      context.define(selector, SegmentDescriptor(base: 0, limit: flat, attributes: rights))
    }
    define(Select.code32, .flatCode32())
    define(Select.data, .flatData())
    define(Select.code64, .flatCode64())
    define(Select.userData, .flatData(privilege: 3))
    define(Select.userCode32, .flatCode32(privilege: 3))
    define(Select.userCode64, .flatCode64(privilege: 3))
    define(Select.readOnly, SegmentAttributes.flatData().subtracting([.writable, .accessed]))
    define(Select.absent, SegmentAttributes.flatData().subtracting(.present))
    define(Select.conforming, SegmentAttributes.flatCode32().union(.conforming).subtracting(.accessed))
    if mode == .bits64 { context.setSegment(.cs, .flatCode64(selector: Select.code64)) }
    context[.rsp] = 0xa000
    return context
  }

  @Test("MOV to a segment register: null, rights, presence, and the accessed bit")
  func load() {
    let context = makeContext(.bits32)
    func load(_ selector: UInt16, stack: Bool) -> GuestException? {
      context[.rax] = UInt64(selector)
      // mov %ax, %ss or %ds
      return context.run([0x8e, stack ? 0xd0 : 0xd8])?.exception
    }
    #expect(load(Select.data, stack: true) == nil && context.shadow == .everything)
    #expect(load(0, stack: true) == .general)
    #expect(load(0, stack: false) == nil && context.segment(.ds).isUnusable)
    #expect(load(Select.readOnly, stack: true) == .general(UInt32(Select.readOnly)))
    #expect(load(Select.absent, stack: true) == .stack(UInt32(Select.absent)))
    #expect(load(Select.absent, stack: false) == .notPresent(UInt32(Select.absent)))
    #expect(load(0x103, stack: false) == .general(0x100))
    #expect(context.byte(0x4000 + Int(Select.readOnly) + 5) & 1 == 0)
    #expect(load(Select.readOnly, stack: false) == nil && context.segment(.ds).rights.contains(.accessed))
    #expect(context.byte(0x4000 + Int(Select.readOnly) + 5) & 1 == 1)
    // A selector with a lower privilege than the segment has.
    #expect(load(Select.data | 3, stack: false) == .general(UInt32(Select.data)))
  }

  @Test("LAR, LSL, VERR and VERW see what the privilege may see")
  func queries() {
    let context = makeContext(.bits32)
    context.cpl = 3
    func isVisible(_ bytes: [UInt8], _ selector: UInt16) -> Bool {
      context[.rax] = UInt64(selector)
      #expect(context.run(bytes) == nil)
      return context.arithmeticFlags.contains(.zero)
    }
    // lar %ax, %ecx
    let lar: [UInt8] = [0x0f, 0x02, 0xc8]
    #expect(isVisible(lar, Select.userData) && context[.rcx] == 0xcf_f300)
    #expect(!isVisible(lar, Select.data) && isVisible(lar, Select.conforming) && !isVisible(lar, 0))
    // lsl, verr, verw
    #expect(isVisible([0x0f, 0x03, 0xc8], Select.userCode32) && context[.rcx] == 0xffff_ffff)
    #expect(isVisible([0x0f, 0x00, 0xe0], Select.userCode32) && !isVisible([0x0f, 0x00, 0xe8], Select.userCode32))
    context.cr0.remove(.protectedMode)
    #expect(context.run(lar)?.exception == .invalidOpcode)
  }

  @Test("a far call pushes CS and the next instruction's address; a wrong target leaves everything")
  func call() {
    let context = makeContext(.bits32)
    #expect(context.run([0x9a, 0x00, 0x20, 0x00, 0x00, 0x08, 0x00]) == nil)
    #expect(context.rip == 0x2000 && context[.rsp] == 0x9ff8)
    #expect(context.half(0x9ff8) == 0x1007 && context.half(0x9ffc) == 8)
    let before = context.segments
    #expect(context.run([0x9a, 0x00, 0x20, 0x00, 0x00, 0x10, 0x00])?.exception == .general(0x10))
    #expect(context.rip == 0x2000 && context[.rsp] == 0x9ff8 && context.segments == before)
  }

  @Test("a call gate takes a call to the inner stack, with its parameters")
  func gate() {
    let context = makeContext(.bits32)
    context.defineGate(
      0x4000 + Int(Select.gate), .callGate, privilege: 3, selector: Select.code32, offset: 0x3456, low: 2)
    context.cpl = 3
    context.setSegment(.cs, .flatCode32(selector: Select.userCode32).with(privilege: 3))
    context.setSegment(.ss, .flatData(selector: Select.userData).with(privilege: 3))
    context.set(0x2222_2222_1111_1111, at: 0xa000)
    context.set(UInt64(Select.data) << 32 | 0xb000, at: 0x6004)
    #expect(context.run([0x9a, 0, 0, 0, 0, UInt8(Select.gate | 3), 0]) == nil)
    #expect(context.cpl == 0 && context.rip == 0x3456 && context[.rsp] == 0xb000 - 24)
    let frame = (0..<6).map { context.half(0xafe8 + 4 * $0) }
    #expect(frame == [0x1007, UInt32(Select.userCode32), 0x1111_1111, 0x2222_2222, 0xa000, UInt32(Select.userData)])
    // And back, past the parameters on both stacks: retf $8.
    #expect(context.run([0xca, 8, 0]) == nil)
    #expect(context.cpl == 3 && context.rip == 0x1007 && context[.rsp] == 0xa008)
  }

  @Test("IRETQ to CPL 3 takes SS and RSP, and makes inner data segments null")
  func interruptReturn() {
    let context = makeContext(.bits64)
    context.blocksNonMaskable = true
    let frame: [UInt64] = [0x7000, UInt64(Select.userCode64), 0x1_0000_0346, 0x5555, UInt64(Select.userData)]
    for (index, word) in frame.enumerated() { context.set(word, at: 0xa000 + 8 * index) }
    #expect(context.run([0x48, 0xcf]) == nil)
    #expect(context.cpl == 3 && context.rip == 0x7000 && context[.rsp] == 0x5555 && !context.blocksNonMaskable)
    // ZF, PF, TF, IF and what is always set.
    #expect(context.flags == [.alwaysOne, .zero, .parity, .trap, .interrupt])
    #expect(context.segment(.ds).isUnusable && context.segment(.cs).rights == .flatCode64(privilege: 3))
    // What POPF may do at CPL 3.
    context.set(UInt64.max, at: 0x5555)
    #expect(context.run([0x9d]) == nil)
    #expect(context.flags == RFLAGS.user.union([.alwaysOne, .interrupt]).subtracting(.interrupt).union(.interrupt))
  }

  @Test("SYSCALL and SYSRET are each other's reverse, but for what SFMASK takes away")
  func systemCall() {
    let context = makeContext(.bits64)
    context[modelSpecific: MSR.star] = 0x0023_0010 << 32
    context[modelSpecific: MSR.lstar] = 0xffff_8000_0000_1234
    context[modelSpecific: MSR.systemCallFlagMask] = RFLAGS([.interrupt, .trap]).rawValue
    context.cpl = 3
    context.flags = [.alwaysOne, .interrupt, .carry, .resume]
    #expect(context.run([0x0f, 0x05]) == nil)
    #expect(context.rip == 0xffff_8000_0000_1234 && context.cpl == 0 && context.flags == [.alwaysOne, .carry])
    #expect(context[.rcx] == 0x1002 && context[.r11] == RFLAGS([.alwaysOne, .interrupt, .carry]).rawValue)
    #expect(context.segment(.cs) == .flatCode64(selector: 0x10) && context.segment(.ss).selector == 0x18)
    #expect(context.run([0x48, 0x0f, 0x07]) == nil)
    #expect(context.rip == 0x1002 && context.cpl == 3 && context.flags == [.alwaysOne, .interrupt, .carry])
    #expect(context.segment(.cs).selector == 0x33 && context.segment(.ss).selector == 0x2b)
    context.efer.remove(.systemCallExtensions)
    #expect(context.run([0x0f, 0x05])?.exception == .invalidOpcode)
  }

  // MARK: Delivery

  private func deliver(_ context: PlainContext, _ event: GuestEvent) -> GuestException? {
    do throws(Interruption) {
      try EventDelivery(context: context).deliver(event)
      return nil
    } catch {
      return error.exception
    }
  }

  @Test("an interrupt in long mode goes to the task's stack, aligned, and marks the code segment as accessed")
  func longDelivery() {
    let context = makeContext(.bits64)
    context.define(
      Select.code64,
      SegmentDescriptor(base: 0, limit: 0, attributes: SegmentAttributes.flatCode64().subtracting(.accessed)))
    context.cpl = 3
    context.setSegment(.cs, .flatCode64(selector: Select.userCode64).with(privilege: 3))
    context.setSegment(.ss, .flatData(selector: Select.userData).with(privilege: 3))
    context.flags = [.alwaysOne, .interrupt, .trap]
    context.defineGate(0x5000 + 14 * 16, .interruptGate, selector: Select.code64, offset: 0x1_2345_6789_abc0)
    context.defineGate(0x5000 + 3 * 16, .trapGate, privilege: 3, selector: Select.code64, offset: 0x4000, low: 3)
    context.set(0xb00c, at: 0x6004)
    context.set(0xd000, at: 0x6024 + 16)
    let event = GuestEvent(
      vector: 14, errorCode: 6, flags: context.flags, isSoftware: false, returnRIP: context.rip)
    // The target is not canonical.
    #expect(deliver(context, event) == .general(1) && context.cpl == 3 && context[.rsp] == 0xa000)
    context.defineGate(0x5000 + 14 * 16, .interruptGate, selector: Select.code64, offset: 0xffff_8765_4321_0000)
    #expect(deliver(context, event) == nil)
    #expect(context.rip == 0xffff_8765_4321_0000 && context.cpl == 0 && context[.rsp] == 0xb000 - 48)
    let frame = (0..<6).map { context.word(0xafd0 + 8 * $0) }
    #expect(frame == [6, 0x1000, UInt64(Select.userCode64), 0x302, 0xa000, UInt64(Select.userData)])
    #expect(context.flags == [.alwaysOne] && context.segment(.ss) == .nullStack(0, privilege: 0))
    #expect(context.byte(0x4000 + Int(Select.code64) + 5) & 1 == 1)
    // INT3 through a trap gate with a stack of its own: IF stays.
    context.flags.insert(.interrupt)
    context.rip = 0x1000
    guard case .stop(.stopRequested)? = context.run([0xcc]) else {
      Issue.record("INT3 was not delivered")
      return
    }
    #expect(context.rip == 0x4000 && context[.rsp] == 0xd000 - 40 && context.flags.contains(.interrupt))
    #expect(context.word(0xd000 - 40) == 0x1001)
  }

  @Test("protected mode: gates of 16 and 32 bits, the inner stack, error codes of what is wrong")
  func protectedDelivery() {
    let context = makeContext(.bits32)
    context.cpl = 3
    context.setSegment(.cs, .flatCode32(selector: Select.userCode32).with(privilege: 3))
    context.setSegment(.ss, .flatData(selector: Select.userData).with(privilege: 3))
    context.set(UInt64(Select.data) << 32 | 0xb000, at: 0x6004)
    func event(_ vector: UInt8, isSoftware: Bool) -> GuestEvent {
      GuestEvent(vector: vector, errorCode: nil, flags: context.flags, isSoftware: isSoftware, returnRIP: 0x1000)
    }
    #expect(deliver(context, event(0x20, isSoftware: false)) == .general(0x20 << 3 | 3))
    context.defineGate(0x5000 + 0x20 * 8, .interruptGate16, selector: Select.code32, offset: 0xffff_1234)
    #expect(deliver(context, event(0x20, isSoftware: true)) == .general(0x20 << 3 | 2))
    #expect(deliver(context, event(0x20, isSoftware: false)) == nil)
    #expect(context.rip == 0x1234 && context[.rsp] == 0xb000 - 10 && context.cpl == 0)
    context.defineGate(0x5000 + 0x21 * 8, .trapGate, selector: Select.data, offset: 0x1234)
    #expect(deliver(context, event(0x21, isSoftware: false)) == .general(UInt32(Select.data) | 1))
    context.defineGate(0x5000 + 0x21 * 8, .trapGate, selector: 0, offset: 0x1234)
    #expect(deliver(context, event(0x21, isSoftware: false)) == .general(1))
    context.idt.limit = 0x107
    #expect(deliver(context, event(0x21, isSoftware: false)) == .general(0x21 << 3 | 3))
  }

  @Test("real mode: the table of far pointers, three words, IF and TF off")
  func realDelivery() {
    let context = PlainContext(.bits16)
    (context.idt, context.flags) = (DescriptorTable(base: 0, limit: 0x3ff), [.alwaysOne, .interrupt, .trap, .carry])
    context.setSegment(.ss, .real(0x900))
    context[.rsp] = 0x100
    context.set([0x34, 0x12, 0x00, 0x0f], at: 4 * 0x10)
    guard case .stop(.stopRequested)? = context.run([0xcd, 0x10]) else {
      Issue.record("INT was not delivered")
      return
    }
    #expect(context.rip == 0x1234 && context.segment(.cs).base == 0xf000 && context[.rsp] == 0xfa)
    #expect(context.word(0x90fa) & 0xffff_ffff_ffff == 0x0303_0008_1002)
    #expect(context.flags == [.alwaysOne, .carry])
  }

  @Test("what follows an exception in delivery: contributory ones and page faults make a double fault")
  func double() {
    let page = GuestException.pageFault([], at: 0)
    #expect(GuestException.general.followed(by: .notPresent(8)) == .doubleFault)
    #expect(page.followed(by: page) == .doubleFault && page.followed(by: .general) == .doubleFault)
    #expect(GuestException.general.followed(by: page) == page)
    #expect(GuestException.debug.followed(by: .general) == .general)
    #expect(GuestException.doubleFault.followed(by: .debug) == nil)
  }
}
