import Testing
import TrivisorX86

// The names against the numbers of the manuals, so that a slip in a table is found here and not in a guest.

@Test("control registers after RESET and in long mode have the values that the manual prints")
func controlRegisters() {
  #expect(CR0.reset.rawValue == 0x6000_0010)
  #expect(CR0.defined.rawValue == 0xe005_003f)
  #expect(CR0([.paging, .protectedMode, .extensionType]).rawValue == 0x8000_0011)
  #expect(CR4([.physicalAddressExtension, .pageGlobal, .osFXSR, .osXMMExceptions, .osXSAVE]).rawValue == 0x4_06a0)
  #expect(
    EFER([.systemCallExtensions, .longModeEnable, .longModeActive, .noExecute]).rawValue == 0xd01)
}

@Test("arithmetic flags, and what a program may change")
func flags() {
  #expect(RFLAGS.arithmetic.rawValue == 0x8d5)
  #expect(RFLAGS.user.rawValue == 0x24_4dd5)
  #expect(RFLAGS(rawValue: 0x3202).ioPrivilege == 3)
}

@Test("debug registers keep what is writable, and the bits that are always one")
func debugRegisters() {
  #expect(DR6(written: 0).rawValue == 0xffff_0ff0)
  #expect(DR6(written: .max).rawValue == 0xffff_efff)
  #expect(DR7(written: 0).rawValue == 0x400)
  #expect(DR7(written: 0xffff_ffff).rawValue == 0xffff_2fff)
  // A data breakpoint of eight bytes in DR1, stores only.
  let control = DR7(rawValue: 0x0090_0404)
  #expect(control.isEnabled(1) && !control.isEnabled(0))
  #expect(control.condition(1) == .write && control.length(1) == 8)
}

@Test(
  "descriptors come apart and together again",
  arguments: [
    (UInt64(0x00cf_9b00_0000_ffff), Segment.flatCode32(selector: 0)),
    (0x00af_9b00_0000_ffff, .flatCode64(selector: 0)), (0x00cf_9300_0000_ffff, .flatData(selector: 0)),
    (0x00cf_fb00_0000_ffff, .flatCode32(selector: 0, privilege: 3)),
    (0x0000_9b00_0000_ffff, .real(0, code: true)), (0x0000_9300_0000_ffff, .real(0)),
  ])
func descriptors(_ raw: UInt64, _ segment: Segment) {
  let descriptor = SegmentDescriptor(rawValue: raw)
  #expect(UInt64(descriptor.base) == segment.base)
  #expect(descriptor.limit == segment.limit)
  #expect(descriptor.attributes == segment.attributes)
  let field = descriptor.attributes.contains(.granularity) ? segment.limit >> 12 : segment.limit
  #expect(
    SegmentDescriptor(base: descriptor.base, limit: field, attributes: descriptor.attributes) == descriptor)
}

@Test("base and limit of a descriptor lie in pieces")
func descriptorPieces() {
  let descriptor = SegmentDescriptor(base: 0x1234_5678, limit: 0xa_bcde, attributes: .flatData(privilege: 3))
  #expect(descriptor.rawValue == 0x12ca_f334_5678_bcde)
  #expect(descriptor.base == 0x1234_5678 && descriptor.limit == 0xabcd_efff)
  #expect(descriptor.attributes.privilege == 3)
}

@Test("a gate's fields")
func gates() {
  let gate = SegmentDescriptor(rawValue: 0x1234_ee05_0008_5678)
  #expect(gate.gateOffset == 0x1234_5678 && gate.gateSelector == 8 && gate.interruptStack == 5)
  #expect(gate.attributes.systemType == .interruptGate && gate.attributes.privilege == 3)
}

@Test("system segments have types, code and data have none")
func systemTypes() {
  #expect(Segment.resetTask.attributes.rawValue == 0x8b)
  #expect(Segment.resetTask.attributes.systemType == .busyTask)
  #expect(Segment.resetLocalDescriptorTable.attributes.rawValue == 0x82)
  #expect(Segment.real(0).attributes.systemType == nil)
  var attributes = SegmentAttributes.flatCode64()
  attributes.privilege = 3
  #expect(attributes == .flatCode64(privilege: 3) && attributes.rawValue == 0xa0fb)
}

@Test("the middle of the address space is not canonical")
func canonical() {
  #expect(LinearAddress.isCanonical(0x7fff_ffff_ffff) && LinearAddress.isCanonical(0xffff_8000_0000_0000))
  #expect(!LinearAddress.isCanonical(0x8000_0000_0000) && !LinearAddress.isCanonical(0xffff_7fff_ffff_ffff))
}

@Test("exceptions that push an error code, and those that make double faults")
func exceptions() {
  #expect(
    ExceptionVector.allCases.filter(\.hasErrorCode).map(\.rawValue) == [8, 10, 11, 12, 13, 14, 17, 21, 29, 30])
  #expect(ExceptionVector.allCases.filter(\.isContributory).map(\.rawValue) == [0, 10, 11, 12, 13, 21])
}

@Test("selectors")
func selectors() {
  let selector = Selector(rawValue: 0x2f)
  #expect(selector.isLocal && selector.requestedPrivilege == 3 && selector.offset == 0x28 && !selector.isNull)
  #expect(Selector(rawValue: 3).isNull && !Selector(rawValue: 4).isNull)
}
