import TrivisorCWorldSwitch
import TrivisorInstructionSet
import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// SYSCALL, SYSRET, IRET, POPF, STAC and CLAC are defined once, in Swift. The helpers in C do the usual case faster: over
/// random states each must come to the same, or leave the instruction to Swift and everything as it was.
@Suite("helpers in C beside the semantics", .serialized)
struct HelperTests {
  private enum Place {
    static let gdt: UInt64 = 0x1000, stack: UInt64 = 0x8000, tables: UInt64 = 0x1_0000, userStack: UInt64 = 0x20_8000
  }

  struct Helper: CustomTestStringConvertible {
    let testDescription: String
    let bytes: [UInt8]
    let number: UInt32
    let privileges: [UInt8]
  }

  static let helpers = [
    Helper(testDescription: "SYSCALL", bytes: [0x0f, 0x05], number: CWS_HELP_SYSTEM_CALL, privileges: [3]),
    Helper(testDescription: "SYSRET", bytes: [0x48, 0x0f, 0x07], number: CWS_HELP_SYSTEM_RETURN, privileges: [0]),
    Helper(testDescription: "IRET", bytes: [0x48, 0xcf], number: CWS_HELP_INTERRUPT_RETURN, privileges: [0]),
    Helper(testDescription: "STAC", bytes: [0x0f, 0x01, 0xcb], number: CWS_HELP_SET_ACCESS, privileges: [0]),
    Helper(testDescription: "CLAC", bytes: [0x0f, 0x01, 0xca], number: CWS_HELP_CLEAR_ACCESS, privileges: [0]),
    Helper(testDescription: "POPF", bytes: [0x9d], number: CWS_HELP_POP_FLAGS, privileges: [0, 3]),
  ]

  private struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var value = state
      value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
      value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
      return value ^ value >> 31
    }
  }

  private let memory: GuestMemory
  private let processor: TranslatedProcessor

  init() throws {
    memory = try GuestMemory(size: 4 << 20)
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    processor = try #require(try partition.makeProcessor(index: 0) as? RewritingProcessor).engine
    // 2 MiB for the kernel and 2 MiB for its user.
    for (index, entry) in [Place.tables + 0x1007, Place.tables + 0x2007].enumerated() {
      try write(entry, Place.tables + 0x1000 * UInt64(index))
    }
    try write(0x83, Place.tables + 0x2000)
    try write(0x20_0087, Place.tables + 0x2008)
  }

  private func write(_ value: UInt64, _ place: UInt64) throws {
    try memory.write(value, at: GuestPhysicalAddress(place))
  }

  /// Selectors as STAR in `makeState` names them: CS and SS of the kernel 10 and 18, of the user 33 and 2B.
  private func writeTable(_ random: inout Random) throws {
    let flat: UInt32 = 0xf_ffff
    let kinds: [SegmentAttributes] = [
      [], [], .flatCode64(), .flatData(), .flatCode32(privilege: 3), .flatData(privilege: 3), .flatCode64(privilege: 3),
    ]
    for (index, kind) in kinds.enumerated() {
      var kind = kind
      // Some that were never used, or are not there.
      if UInt8.random(in: 0..<32, using: &random) == 0 { kind.remove(.accessed) }
      if UInt8.random(in: 0..<64, using: &random) == 0 { kind.remove(.present) }
      let descriptor = SegmentDescriptor(base: 0, limit: flat, attributes: kind)
      try write(descriptor.rawValue, Place.gdt + 8 * UInt64(index))
    }
  }

  private func flags(_ random: inout Random) -> RFLAGS {
    var flags = RFLAGS(rawValue: random.next()).intersection(.arithmetic).union([.alwaysOne, .interrupt])
    for rare in [RFLAGS.trap, .interrupt, .direction, .nestedTask, .resume, .alignmentCheck, .identification] {
      if UInt8.random(in: 0..<12, using: &random) == 0 { flags.formSymmetricDifference(rare) }
    }
    for rarer in [RFLAGS.virtualInterrupt, .virtualInterruptPending] {
      if UInt8.random(in: 0..<64, using: &random) == 0 { flags.insert(rarer) }
    }
    if UInt8.random(in: 0..<8, using: &random) == 0 { flags.insert(.ioPrivilegeLevel) }
    return flags
  }

  private func address(_ random: inout Random) -> UInt64 {
    switch UInt8.random(in: 0..<8, using: &random) {
    case 0: random.next()
    case 1, 2: random.next() | 0xffff_8000_0000_0000
    default: random.next() & 0x7fff_ffff_ffff
    }
  }

  private func makeState(privilege: UInt8, _ random: inout Random) -> MachineState {
    var state = MachineState()
    state.system.cr0 = CR0([.protectedMode, .extensionType, .numericError, .writeProtect, .paging]).rawValue
    state.system.cr3 = Place.tables
    state.system.cr4 = CR4([.physicalAddressExtension, .osFXSR, .supervisorAccessPrevention]).rawValue
    state.system.efer = EFER([.systemCallExtensions, .longModeEnable, .longModeActive, .noExecute]).rawValue
    state.system.gdt = DescriptorTable(base: Place.gdt, limit: 0x37)
    let isUser = privilege == 3
    state.system.cs = Segment.flatCode64(selector: isUser ? 0x33 : 0x10).with(privilege: privilege)
    state.system.ss = Segment.flatData(selector: isUser ? 0x2b : 0x18).with(privilege: privilege)
    if !isUser, Bool.random(using: &random) { state.system.ss = .nullStack(0, privilege: 0) }
    let data = Segment.flatData(selector: 0x2b).with(privilege: 3)
    (state.system.ds, state.system.es, state.system.fs, state.system.gs) = (data, data, data, data)
    if UInt8.random(in: 0..<16, using: &random) == 0 { state.system.ds = .flatData(selector: 0x18) }
    state.events.nonMaskableBlocked = UInt8.random(in: 0..<16, using: &random) == 0
    state.general.rip = 0x3000
    // A single step would have been left to Swift before.
    state.general.rflags = flags(&random).subtracting([.trap, .resume]).rawValue
    state.general.rsp = isUser ? Place.userStack : Place.stack
    (state.general.rax, state.general.rbx) = (random.next(), random.next())
    state.general.rcx = address(&random)
    state.general.r11 = flags(&random).rawValue | random.next() & RFLAGS.defined.rawValue & 0x18_0000
    if UInt8.random(in: 0..<4, using: &random) != 0 { state.general.r11 &= RFLAGS.user.union(.interrupt).rawValue }
    state[modelSpecific: MSR.star] = 0x0023_0010 << 32
    state[modelSpecific: MSR.lstar] = 0xffff_8000_0000_1000
    state[modelSpecific: MSR.systemCallFlagMask] = Bool.random(using: &random) ? 0x4_7700 : flags(&random).rawValue
    return state
  }

  private func writeFrame(_ place: UInt64, isFlags: Bool, _ random: inout Random) throws {
    if isFlags {
      try write(flags(&random).rawValue | random.next() << 32, place)
      return
    }
    let isKernel = Bool.random(using: &random)
    try write(address(&random), place)
    let code: UInt64 = UInt8.random(in: 0..<8, using: &random) == 0 ? 0x23 : isKernel ? 0x10 : 0x33
    try write(code | random.next() << 16, place + 8)
    try write(flags(&random).rawValue, place + 16)
    try write(random.next(), place + 24)
    try write(isKernel ? (Bool.random(using: &random) ? 0 : 0x18) : 0x2b, place + 32)
  }

  /// What must be the same, however it came about.
  private struct Outcome: Equatable {
    var general: GeneralRegisters
    var system: SystemRegisters
    var mode: CodeMode
    var isBlocked: Bool
  }

  private func outcome() throws -> Outcome {
    try processor.control.establish()
    var state = StateTransfer(processor: processor).read()
    // The helper of IRET drops RF, which counts for breakpoints only and goes before the next block in any case.
    state.general.rflags &= ~RFLAGS.resume.rawValue
    return Outcome(
      general: state.general, system: state.system, mode: processor.mode, isBlocked: state.events.nonMaskableBlocked)
  }

  private func begin(_ state: MachineState, _ seed: Random, _ helper: Helper) throws {
    var random = seed
    try writeTable(&random)
    try writeFrame(state.general.rsp, isFlags: helper.number == CWS_HELP_POP_FLAGS, &random)
    try processor.writeState(state)
    try processor.control.establish()
  }

  @Test("comes to the same as the slow path, or changes nothing", arguments: helpers)
  func same(helper: Helper) throws {
    let padded = helper.bytes + [UInt8](repeating: 0x90, count: 15)
    let decoded = padded.withUnsafeBytes { Decoder(mode: .bits64).decode($0) }
    guard case .instruction(let instruction) = decoded else { throw TechniqueFailure(call: "decode", reason: "no") }
    var random = Random(state: 0x5eed)
    var (done, left) = (0, 0)
    for number in 0..<4000 {
      let privilege = try #require(helper.privileges.randomElement(using: &random))
      let state = makeState(privilege: privilege, &random)
      let seed = random
      _ = random.next()
      try begin(state, seed, helper)
      let mode = processor.mode
      guard !mode.isSingleStepping, !mode.checksAccesses else { continue }
      if helper.number == CWS_HELP_INTERRUPT_RETURN, mode.view != 1 { continue }
      let before = try outcome()
      var slow: Outcome?
      do throws(Interruption) {
        try processor.emulate(instruction)
      } catch {
        slow = nil
      }
      slow = processor.rip == state.general.rip ? nil : try? outcome()
      try begin(state, seed, helper)
      // The helpers find what the TLB has.
      try processor.check(state.general.rsp, count: 40, .read)
      _ = try processor.loadTable(Place.gdt, size: 8)
      let next = state.general.rip + UInt64(helper.bytes.count)
      let (block, system) = (processor.block.state, processor.block.system)
      (block.pointee.rip, block.pointee.site) = (next, 0)
      block.pointee.helper = UInt64(helper.number) | (privilege == 3 ? 1 << 16 : 0) | UInt64(mode.view) << 24
      system.pointee.event_pending = UInt64(number & 1)
      system.pointee.return_is_special =
        state.events.nonMaskableBlocked || processor.control.hasInnerDataSegments ? 1 : 0
      let answer = cws_help(block)
      guard answer != 0 || block.pointee.site == CWS_SITE_COMPLETE else {
        #expect(try outcome() == before, "case \(number)")
        left += 1
        continue
      }
      processor.control.adopt()
      processor.rip = helper.number == CWS_HELP_POP_FLAGS ? next : block.pointee.rip
      #expect(try outcome() == slow, "case \(number)")
      done += 1
    }
    #expect(done > 500 && (left > 50 || helper.number == CWS_HELP_SET_ACCESS || helper.number == CWS_HELP_CLEAR_ACCESS))
  }
}
