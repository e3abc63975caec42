import TrivisorInstructionSet
import Testing
import TrivisorVMM

@testable import TrivisorDifferential

/// Each class of differences is recognised by its smallest case, and not by what is nearly the same. The outcomes are written
/// by hand after what Intel's processors were seen to do, so that hosts of any vendor check the classes of all.
@Suite("Differences between hosts")
struct HostDifferenceTests {
  private static let code: UInt64 = 0x1000_7600

  /// Two outcomes that end with a page fault at the same instruction, before they are told apart.
  private func fault(_ vector: UInt64 = 14, address: UInt64 = 0x1000_3000) -> ProcessorOutcome {
    var outcome = ProcessorOutcome()
    outcome.vector = vector
    outcome.address = vector == 14 ? address : 0
    outcome.errorCode = vector == 14 ? 6 : 0
    outcome.rip = Self.code
    return outcome
  }

  private func classify(
    _ bytes: [UInt8], mode: CPUMode = .bits64, model: ProcessorOutcome, native: ProcessorOutcome,
    memory: [MemoryDifference] = [], nativeLast: [UInt8]? = nil, on vendor: HostProcessor.Vendor = .intel
  ) -> HostDifference? {
    HostDifference.classify(
      HostObservation(
        mode: mode, native: native, model: model, memory: memory, modelLast: bytes, nativeLast: nativeLast ?? bytes,
        startFlags: 0x202),
      on: vendor)
  }

  private func with(_ outcome: ProcessorOutcome, _ change: (inout ProcessorOutcome) -> Void) -> ProcessorOutcome {
    var copy = outcome
    change(&copy)
    return copy
  }

  /// Where the native run goes on and meets the end of the code.
  private var goesOn: ProcessorOutcome { with(fault(6)) { $0.rip = Self.code + 8 } }

  private func encoding(_ bytes: [UInt8], mode: CPUMode = .bits64, _ difference: HostDifference) -> [UInt8]? {
    var instruction = Instruction(mode: mode)
    guard bytes.withUnsafeBytes({ Decoder(mode: mode).decode($0, into: &instruction) }) == .decoded else { return nil }
    return difference.encodingForModel(bytes, instruction)
  }

  @Test("no difference is of no class, and every class is of some vendor")
  func nothing() {
    #expect(classify([0x90], model: fault(), native: fault()) == nil)
    #expect(HostDifference.allCases.allSatisfy { !$0.vendors.isEmpty })
    #expect(HostDifference.expected(on: .amd).isEmpty)
    for difference in HostDifference.expected(on: .intel) { #expect(difference.vendors.contains(.intel)) }
  }

  @Test("66 before a near branch: the model gets it without")
  func nearBranches() {
    #expect(encoding([0x66, 0xc3], .nearBranchOperandSize) == [0x3e, 0xc3])
    #expect(encoding([0x66, 0xc2, 8, 0], .nearBranchOperandSize) == [0x3e, 0xc2, 8, 0])
    #expect(encoding([0x66, 0x41, 0xff, 0xe0], .nearBranchOperandSize) == [0x3e, 0x41, 0xff, 0xe0])
    #expect(encoding([0xc3], .nearBranchOperandSize) == nil)
    #expect(encoding([0x66, 0x90], .nearBranchOperandSize) == nil)
    #expect(encoding([0x66, 0xc3], mode: .bits32, .nearBranchOperandSize) == nil)
  }

  @Test("F2 and F3 before LOOP: the model gets it without")
  func loops() {
    #expect(encoding([0xf3, 0xe2, 0x10], .loopPrefix) == [0x3e, 0xe2, 0x10])
    #expect(encoding([0xf2, 0xe0, 0x10], mode: .bits32, .loopPrefix) == [0x3e, 0xe0, 0x10])
    #expect(encoding([0xe2, 0x10], .loopPrefix) == nil)
    #expect(encoding([0xf3, 0xa4], .loopPrefix) == nil)
  }

  @Test("PUSH of a segment register writes two bytes")
  func segmentPush() {
    let end = fault(3)
    let memory = [0x1001_0102, 0x1001_0103].map { MemoryDifference(address: $0, native: 0xaa, model: 0) }
    #expect(classify([0xcc], mode: .bits32, model: end, native: end, memory: memory) == .segmentPushWidth)
    #expect(classify([0xff, 0x12], mode: .bits32, model: end, native: end, memory: memory) == nil)
    // By the model, the upper two bytes can't be written.
    let refused = fault(14)
    #expect(classify([0x1e], mode: .bits32, model: refused, native: goesOn) == .segmentPushWidth)
    #expect(classify([0x50], mode: .bits32, model: refused, native: goesOn) == nil)
    let other = [MemoryDifference(address: 0x1001_0102, native: 0xaa, model: 1)]
    #expect(classify([0xcc], mode: .bits32, model: end, native: end, memory: other) == nil)
  }

  @Test(
    "VEX operands, MOVUPS, MOVUPD, MOVDQU, LDDQU and PCMPxSTRx may be unaligned",
    arguments: [
      [0xc5, 0xf8, 0x58, 0x07], [0xf3, 0x0f, 0x6f, 0x07], [0x66, 0x0f, 0x3a, 0x63, 0x07, 0], [0x0f, 0x10, 0x07],
      [0x66, 0x0f, 0x11, 0x07], [0xf2, 0x0f, 0xf0, 0x07],
    ] as [[UInt8]])
  func alignment(bytes: [UInt8]) {
    let model = with(fault(17)) { $0.flags |= 0x4_0000 }
    let native = with(goesOn) { $0.flags |= 0x4_0000 }
    #expect(classify(bytes, model: model, native: native) == .vectorAlignment)
    #expect(classify(bytes, model: model, native: native, on: .amd) == nil)
    // Plain loads are checked by everybody, MOVSD's and MOVHPS's too.
    for bytes in [[0x8b, 0x07], [0xf2, 0x0f, 0x10, 0x07], [0x0f, 0x16, 0x07]] as [[UInt8]] {
      #expect(classify(bytes, model: model, native: native) == nil)
    }
    #expect(classify(bytes, model: fault(17), native: goesOn) == nil)
  }

  @Test("a gather's mask, lane by lane")
  func gather() {
    // vpgatherdd %xmm2, (%rdi,%xmm1), %xmm0
    let bytes: [UInt8] = [0xc4, 0xe2, 0x69, 0x90, 0x04, 0x0f]
    let model = with(fault()) { $0.vectors[8] = 0x8000_1234_7000_0001 }
    let native = with(fault()) { $0.vectors[8] = 0xffff_ffff_0000_0000 }
    #expect(classify(bytes, model: model, native: native) == .gatherMask)
    #expect(classify(bytes, model: model, native: with(native) { $0.vectors[8] = 1 }) == nil)
    #expect(classify(bytes, model: model, native: with(native) { $0.vectors[0] = 1 }) == nil)
    // What lies above the destination.
    let upper = with(model) { $0.vectors[3] = 0x1234 }
    #expect(classify(bytes, model: upper, native: native) == .gatherMask)
    #expect(classify(bytes, model: model, native: with(native) { $0.vectors[3] = 1 }) == nil)
    let isStack = with(model) { ($0.vector, $0.address) = (12, 0) }
    #expect(classify(bytes, model: isStack, native: with(native) { ($0.vector, $0.address) = (12, 0) }) == .gatherMask)
  }

  @Test("a call to what is no address stores first")
  func call() {
    let model = with(fault(13)) { $0.general[4] = 0x1000_2008 }
    let next = Self.code + 2
    let memory = (0..<8).map {
      MemoryDifference(
        address: 0x1000_2000 + UInt64($0), native: UInt8(truncatingIfNeeded: next >> UInt64(8 * $0)), model: 0x55)
    }
    #expect(classify([0xff, 0x10], model: model, native: model, memory: memory) == .callStoresFirst)
    let elsewhere = [MemoryDifference(address: 0x1000_2010, native: 1, model: 2)]
    #expect(classify([0xff, 0x10], model: model, native: model, memory: elsewhere) == nil)
    #expect(classify([0xff, 0x20], model: model, native: model, memory: memory) == nil)
    // Of 16 bits, where SS has a base.
    let short = [0x1001_fa8a, 0x1001_fa8b].map {
      MemoryDifference(address: $0, native: $0 & 1 == 0 ? 2 : 0x76, model: 0)
    }
    #expect(classify([0xff, 0x12], mode: .bits16, model: model, native: model, memory: short) == .callStoresFirst)
    let other = [MemoryDifference(address: 0x1001_fa8a, native: 7, model: 0)]
    #expect(classify([0xff, 0x12], mode: .bits16, model: model, native: model, memory: other) == nil)
  }

  @Test("an MMX store that faults has made TOP 0")
  func multimedia() {
    var model = fault()
    model.x87Status = 3 << 11
    for register in 0..<8 { model.x87Registers[register] = [UInt8](repeating: UInt8(register), count: 10) }
    var native = model
    native.x87Status = 0
    for register in 0..<8 { native.x87Registers[register] = model.x87Registers[(register + 5) & 7] }
    #expect(classify([0x0f, 0x7f, 0x07], model: model, native: native) == .multimediaTop)
    #expect(classify([0x0f, 0x6f, 0x07], model: model, native: native) == nil)
    native.x87Registers[0] = model.x87Registers[0]
    #expect(classify([0x0f, 0x7f, 0x07], model: model, native: native) == nil)
  }

  @Test("VCVTPS2PH has set the flags of MXCSR")
  func conversion() {
    // vcvtps2ph $0, %xmm0, (%rdi)
    let bytes: [UInt8] = [0xc4, 0xe3, 0x79, 0x1d, 0x07, 0]
    #expect(classify(bytes, model: fault(), native: with(fault()) { $0.mxcsr |= 0x20 }) == .conversionFlags)
    #expect(classify(bytes, model: fault(), native: with(fault()) { $0.mxcsr |= 0x8000 }) == nil)
    // Not masked, it is an exception of its own.
    let model = with(fault()) { $0.mxcsr = 0xf80 }
    let native = with(fault(19)) { $0.mxcsr = 0xfa0 }
    #expect(classify(bytes, model: model, native: native) == .conversionFlags)
    #expect(classify(bytes, model: model, native: with(native) { $0.mxcsr = 0x1fa0 }) == nil)
  }

  @Test("a masked move's fault names another byte of its operand")
  func maskedMove() {
    // vpmaskmovd %ymm0, %ymm1, (%rdi)
    let bytes: [UInt8] = [0xc4, 0xe2, 0x75, 0x8e, 0x07]
    #expect(classify(bytes, model: fault(), native: fault(address: 0x1000_3010)) == .maskedMoveAddress)
    #expect(classify(bytes, model: fault(), native: fault(address: 0x1000_4000)) == nil)
    let other = with(fault(address: 0x1000_3004)) { $0.errorCode = 7 }
    #expect(classify(bytes, model: fault(), native: other) == .maskedMoveAddress)
    #expect(
      classify([0x66, 0x0f, 0xf7, 0xc1], model: fault(), native: fault(address: 0x1000_3004)) == .maskedMoveAddress)
  }

  @Test("an x87 store with an exception that is not masked does not look at its address")
  func x87Order() {
    let model = with(fault()) { $0.x87Control = 0x37e }
    let native = with(goesOn) {
      $0.x87Control = 0x37e
      $0.x87Status = 0x8081
    }
    for bytes in [[0xdb, 0x17], [0xd9, 0x17], [0xdf, 0x37]] as [[UInt8]] {
      #expect(classify(bytes, model: model, native: native) == .x87StoreOrder)
    }
    #expect(classify([0xd9, 0x07], model: model, native: native) == nil)
    #expect(classify([0xdb, 0x17], model: model, native: with(native) { $0.x87Status = 0 }) == nil)
  }

  @Test("REP SCAS and CMPS that fault give the flags back")
  func repeatedCompare() {
    let native = with(fault()) { $0.flags = 0x246 }
    #expect(classify([0xf3, 0xae], model: fault(), native: native) == .repeatedCompareFlags)
    #expect(classify([0xf2, 0xa6], model: fault(), native: native) == .repeatedCompareFlags)
    #expect(classify([0xae], model: fault(), native: native) == nil)
    #expect(classify([0xf3, 0xae], model: fault(), native: with(native) { $0.general[7] = 1 }) == nil)
  }

  @Test("a repeated instruction with 32-bit addresses cuts RCX at once")
  func repeatedCounter() {
    let bytes: [UInt8] = [0x67, 0xf3, 0xac]
    let model = with(fault()) { $0.general[1] = 0x5_0000_0007 }
    #expect(classify(bytes, model: model, native: with(model) { $0.general[1] = 7 }) == .repeatedCounterExtension)
    #expect(classify(bytes, model: model, native: with(model) { $0.general[1] = 6 }) == nil)
    #expect(classify([0xf3, 0xac], model: model, native: with(model) { $0.general[1] = 7 }) == nil)
  }

  @Test("FSTP m80 and FBSTP store a part before the page that refuses")
  func x87Partial() {
    let memory = (0..<8).map { MemoryDifference(address: 0x1000_2ff8 + $0, native: 1, model: 2) }
    for bytes in [[0xdb, 0x3f], [0xdf, 0x37]] as [[UInt8]] {
      #expect(classify(bytes, model: fault(), native: fault(), memory: memory) == .x87PartialStore)
    }
    #expect(classify([0xdd, 0x1f], model: fault(), native: fault(), memory: memory) == nil)
    let behind = [MemoryDifference(address: 0x1000_3000, native: 1, model: 2)]
    #expect(classify([0xdb, 0x3f], model: fault(), native: fault(), memory: behind) == nil)
  }

  @Test("CMPS, whose operands both fault", arguments: [HostProcessor.Vendor.amd, .intel])
  func compareOrder(vendor: HostProcessor.Vendor) {
    let model = with(fault(address: 0x1000_3ff8)) {
      $0.general[6] = 0x1000_3ff8
      $0.general[7] = 0x1000_cffa
    }
    let native = with(model) { $0.address = 0x1000_cffa }
    for bytes in [[0xf3, 0x41, 0xa6], [0xa6], [0xa7], [0xf2, 0x48, 0xa7]] as [[UInt8]] {
      #expect(classify(bytes, model: model, native: native, on: vendor) == .compareOrder)
      #expect(classify(bytes, model: model, native: native, on: .other("CentaurHauls")) == nil)
    }
    #expect(classify([0xa4], model: model, native: native, on: vendor) == nil)
    #expect(classify([0xa6], model: model, native: with(model) { $0.address = 0x1000_5000 }, on: vendor) == nil)
    // One of them because it is not aligned.
    let checked = with(model) { ($0.flags, $0.general[7]) = (0x4_0202, 0x1000_cffb) }
    let unaligned = with(checked) { ($0.vector, $0.address, $0.errorCode) = (17, 0, 0) }
    #expect(classify([0xa7], model: checked, native: unaligned, on: vendor) == .compareOrder)
    #expect(classify([0xa6], model: checked, native: unaligned, on: vendor) == nil)
    #expect(
      classify(
        [0xa7], model: with(checked) { $0.flags = 0x202 }, native: with(unaligned) { $0.flags = 0x202 }, on: vendor)
        == nil)
    let aligned = with(unaligned) { $0.general[7] = 0x1000_cff8 }
    #expect(classify([0xa7], model: with(checked) { $0.general[7] = 0x1000_cff8 }, native: aligned, on: vendor) == nil)
    let source = with(checked) { ($0.vector, $0.address, $0.general[6]) = (17, 0, 0x1000_3ff9) }
    let page = with(source) { ($0.vector, $0.address) = (14, 0x1000_cffb) }
    #expect(classify([0xa7], model: source, native: page, on: vendor) == .compareOrder)
    #expect(classify([0xa6], model: model, native: with(native) { $0.general[0] = 1 }, on: vendor) == nil)
  }

  @Test("MOVSXD with a 16-bit operand reads two bytes")
  func signExtension() {
    #expect(classify([0x66, 0x63, 0x06], model: fault(), native: goesOn) == .signExtensionWidth)
    #expect(classify([0x63, 0x06], model: fault(), native: goesOn) == nil)
    #expect(classify([0x66, 0x63, 0x06], model: fault(), native: goesOn, on: .amd) == nil)
  }

  @Test("an access across 4 GiB")
  func addressSpaceEnd() {
    let native = with(fault(14, address: 0xffff_fffe)) { $0.errorCode = 0 }
    #expect(classify([0x8b, 0x07], mode: .bits32, model: fault(13), native: native) == .addressSpaceEnd)
    #expect(classify([0x8b, 0x07], mode: .bits32, model: fault(13), native: fault(14)) == nil)
    #expect(classify([0x8b, 0x07], model: fault(13), native: native) == nil)
  }

  @Test("bit 17 of MXCSR is taken by AMD's processors")
  func misalignedMask() {
    let load: [UInt8] = [0x0f, 0xae, 0x17]
    #expect(classify(load, model: fault(13), native: goesOn, on: .amd) == .misalignedMask)
    #expect(classify(load, model: fault(13), native: goesOn, on: .intel) == nil)
    #expect(classify([0x0f, 0xae, 0x1f], model: fault(13), native: goesOn, on: .amd) == nil)
  }
}
