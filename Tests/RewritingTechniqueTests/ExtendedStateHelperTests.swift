import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// XSAVE, XSAVEOPT and XRSTOR are defined once, in Swift, and a helper in C does the usual case: over random areas, masks and registers
/// both must come to the same. Swift carries out all of them where sensitive instructions are traced.
@Suite("XSAVE and XRSTOR in translated code beside the semantics")
struct ExtendedStateHelperTests {
  private enum Place {
    static let tables: UInt64 = 0x1_0000, code: UInt64 = 0x3000, stack: UInt64 = 0x8000
    static let initial: UInt64 = 0x10_0000, saved: UInt64 = 0x10_2000, restored: UInt64 = 0x10_4000
    static let last: UInt64 = 0x10_6000, environment: UInt64 = 0x10_7000
    static let areas = initial..<0x10_8000
  }

  private final class End: PortDevice {
    func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }
    func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect { .stop(.exited(code: 0)) }
  }

  private struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ state >> 29
    }

    mutating func chance(_ one: UInt64) -> Bool { next() >> 20 % one == 0 }
  }

  /// A case: the bytes of all areas, the masks, where the areas begin in their places, and which instruction saves.
  private struct Case {
    var areas: [UInt8]
    var masks: [UInt32]
    var savedOffset: UInt64, restoredOffset: UInt64
    var isOptimised: Bool
  }

  private func makeCase(_ random: inout Random) -> Case {
    var areas = [UInt8](repeating: 0, count: Int(Place.areas.upperBound - Place.areas.lowerBound))
    func offset(_ random: inout Random) -> UInt64 {
      // On one page or on two, and now and then where no area may be.
      random.chance(3) ? 0xe00 : random.chance(24) ? 0x110 : 64 * (random.next() % 32)
    }
    let (saved, restored) = (offset(&random), offset(&random))
    fill(&areas, at: 0, isInitial: true, &random)
    fill(&areas, at: Int(Place.saved - Place.initial + saved), isInitial: false, &random)
    fill(&areas, at: Int(Place.restored - Place.initial + restored), isInitial: false, &random)
    let masks: [UInt32] = (0..<2).map { _ in [7, .max, 6, 0xee, 7, 3, 5, 2, 0x207].randomElement(using: &random) ?? 7 }
    return Case(
      areas: areas, masks: masks, savedOffset: saved, restoredOffset: restored, isOptimised: random.chance(2))
  }

  private func fill(_ areas: inout [UInt8], at start: Int, isInitial: Bool, _ random: inout Random) {
    for index in 0..<832 { areas[start + index] = UInt8(truncatingIfNeeded: random.next() >> 24) }
    func set(_ offset: Int, _ value: UInt64, count: Int) {
      for byte in 0..<count { areas[start + offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    set(0, 0x37f, count: 2)
    // FSW with or without something pending, as FCW has all masked or not.
    if random.chance(6) { set(0, 0x37e, count: 2) }
    set(2, random.chance(6) ? 0x1 : 0x1800, count: 2)
    if random.chance(12) { set(2, 0x80_81, count: 2) }
    if !random.chance(4) { set(6, 0, count: 2) }
    if !random.chance(4) { (8..<24).forEach { areas[start + $0] = 0 } }
    set(24, random.chance(16) && !isInitial ? 0x1_1f80 : 0x1fa0, count: 4)
    if random.chance(2) { (576..<832).forEach { areas[start + $0] = 0 } }
    set(512, isInitial ? 7 : random.chance(16) ? 0x107 : random.next() % 8, count: 8)
    set(520, random.chance(20) && !isInitial ? 1 : 0, count: 8)
    set(528, random.chance(20) && !isInitial ? 1 : 0, count: 8)
  }

  private func program(_ test: Case) -> [UInt8] {
    var code: [UInt8] = []
    func address(_ register: UInt8, _ value: UInt64) {
      code += [0xb8 | register] + (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }
    // Helpers find what the TLB has: orb $0 at the first byte and at the last.
    func touch(_ register: UInt8) {
      code += [0x80, 0x08 | register, 0, 0x80, 0x88 | register, 0x3f, 0x03, 0, 0, 0]
    }
    func mask(_ value: UInt32) {
      address(0, UInt64(value))
      address(2, value == .max ? UInt64(UInt32.max) : 0)
    }
    mask(7)
    address(7, Place.initial)
    touch(7)
    code += [0x0f, 0xae, 0x2f]  // xrstor (%rdi)
    mask(test.masks[0])
    address(7, Place.saved + test.savedOffset)
    touch(7)
    code += [0x0f, 0xae, test.isOptimised ? 0x37 : 0x27]  // xsaveopt (%rdi), xsave (%rdi)
    code += [0xc5, 0xe4, 0x57, 0xdb]  // vxorps %ymm3, %ymm3, %ymm3
    code += [0xc5, 0xf4, 0xc2, 0xc1, 0x0f]  // vcmptrueps %ymm1, %ymm1, %ymm0
    mask(test.masks[1])
    address(6, Place.restored + test.restoredOffset)
    touch(6)
    code += [0x0f, 0xae, 0x2e]  // xrstor (%rsi)
    code += [0xc5, 0xdc, 0x58, 0xd4]  // vaddps %ymm4, %ymm4, %ymm2
    mask(7)
    address(7, Place.last)
    touch(7)
    code += [0x0f, 0xae, 0x27]
    address(7, Place.environment)
    code += [0xd9, 0x37, 0xe6, 0xf4]  // fnstenv (%rdi); out %al, $0xf4
    return code
  }

  /// What came of it.
  private struct Outcome: Equatable {
    var reason: StopReason
    var areas: [UInt8]
    var general: GeneralRegisters
    var extended: ExtendedState
  }

  private func run(_ test: Case, bySwift: Bool) throws -> (Outcome, callOuts: UInt64) {
    let memory = try GuestMemory(size: 4 << 20)
    func write(_ value: UInt64, _ place: UInt64) throws { try memory.write(value, at: GuestPhysicalAddress(place)) }
    try write(Place.tables + 0x1007, Place.tables)
    try write(Place.tables + 0x2007, Place.tables + 0x1000)
    try write(0xe7, Place.tables + 0x2000)
    try memory.copy(program(test), to: GuestPhysicalAddress(Place.code))
    try memory.copy(test.areas, to: GuestPhysicalAddress(Place.areas.lowerBound))
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let technique = RewritingTechnique(trace: bySwift ? try CodeTrace(.sensitive, path: "/dev/null") : nil)
    let bus = try Bus(ports: [.init("end", base: 0xf4, count: 4, device: End())])
    let partition = try technique.makePartition(configuration, memory: memory, bus: bus)
    let processor = try partition.makeProcessor(index: 0)
    var state = MachineState()
    state.system.cr0 = CR0([.protectedMode, .extensionType, .numericError, .writeProtect, .paging]).rawValue
    state.system.cr3 = Place.tables
    state.system.cr4 = CR4([.physicalAddressExtension, .osFXSR, .osXSAVE]).rawValue
    state.system.efer = EFER([.longModeEnable, .longModeActive]).rawValue
    state.system.cs = .flatCode64(selector: 0x10)
    state.system.ss = .flatData(selector: 0x18)
    (state.general.rip, state.general.rsp, state.general.rflags) = (Place.code, Place.stack, 2)
    state.extended.xcr0 = XCR0([.x87, .sse, .avx]).rawValue
    try processor.writeState(state)
    let reason = try processor.run()
    let end = try processor.readState()
    var areas = [UInt8](repeating: 0, count: test.areas.count)
    for index in areas.indices {
      areas[index] = try memory.read(at: GuestPhysicalAddress(Place.areas.lowerBound + UInt64(index)))
    }
    let details = processor.details
    return (
      Outcome(reason: reason, areas: areas, general: end.general, extended: end.extended),
      ["xsave", "xsaveopt", "xrstor"].reduce(0) { $0 + (details["call-out: \($1)"] ?? 0) }
    )
  }

  @Test("the same registers, areas and faults")
  func same() throws {
    var random = Random(state: 0x5eed)
    var (ended, byHelper) = (0, 0)
    for number in 0..<400 {
      let test = makeCase(&random)
      let (expected, all) = try run(test, bySwift: true)
      let (found, some) = try run(test, bySwift: false)
      #expect(found == expected, "case \(number)")
      if expected.reason == .exited(code: 0) { ended += 1 }
      byHelper += Int(all) - Int(some)
    }
    #expect(ended > 150 && ended < 400)
    #expect(byHelper > 400)
  }
}
