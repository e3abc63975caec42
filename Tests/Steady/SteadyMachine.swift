import TrivisorRewritingTechnique
import Synchronization
import TrivisorVMM
import TrivisorX86

/// Runs steady code under the rewriting technique.
public struct SteadyMachine {
  /// What one run cost, behind its first rounds.
  public struct Result: Sendable {
    /// By round.
    public var allocations: [UInt64]
    /// How often the processor's thread went to sleep in all of them.
    public var sleeps: UInt64
    /// One sentence if it did not come to its end.
    public var problem: String?
  }

  /// Rounds that translate, set up what is kept, and translate anew what meets itself too often.
  private static let firstRounds = 150

  private let probe = SteadyProbe()
  private let memory: GuestMemory
  private let bus: Bus

  /// A machine for one run.
  /// - Throws: what the host says.
  public init() throws {
    bus = try Bus(
      ports: [.init("probe", base: 0x10, count: 4, device: probe)],
      memory: [.init("probe", base: GuestPhysicalAddress(1 << 20), size: 0x10_0000, device: probe)])
    memory = try GuestMemory(size: 1 << 20)
  }

  /// Runs all rounds.
  /// - Throws: what the host says.
  public func run(_ code: SteadyCode) throws -> Result {
    try memory.copy(code.loop, to: GuestPhysicalAddress(SteadyCode.start))
    if code.is64Bit { try makeTables() } else { try makeVectors() }
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: bus)
    let threads = ProcessorThreads(
      partition: partition, count: 1,
      bootstrap: { state in
        state.general.rip = SteadyCode.start
        state.general.rsi = SteadyCode.rounds
        state.general.rsp = 0xf000
        if code.is64Bit { Self.enterLongMode(&state, behind: code) } else { Self.enterRealMode(&state) }
      }, whenEnded: {})
    threads.start()
    threads.resume()
    threads.join()
    let readings = probe.readings.withLock { $0 }
    guard let ending = threads.result?.ending, ending == .stopped(.exited(code: 0)),
      readings.count == Int(SteadyCode.rounds) + 1
    else {
      return Result(
        allocations: [], sleeps: 0, problem: "\(readings.count) rounds, \(String(describing: threads.result?.ending))")
    }
    let steady = readings.dropFirst(Self.firstRounds).dropLast()
    return Result(
      allocations: zip(steady.dropFirst(), steady).map { $0.allocations &- $1.allocations },
      sleeps: (steady.last?.sleeps ?? 0) &- (steady.first?.sleeps ?? 0))
  }

  // MARK: Real mode

  /// INT 40h and #UD: iret; the latter behind the instruction.
  private func makeVectors() throws {
    try memory.write(UInt32(0x1800), at: GuestPhysicalAddress(4 * 0x40))
    try memory.write(UInt32(0x1900), at: GuestPhysicalAddress(4 * 6))
    try memory.copy([0xcf], to: GuestPhysicalAddress(0x1800))
    // push bp; mov bp, sp; add word [bp + 2], 2; pop bp; iret
    try memory.copy([0x55, 0x89, 0xe5, 0x83, 0x46, 0x02, 0x02, 0x5d, 0xcf], to: GuestPhysicalAddress(0x1900))
  }

  private static func enterRealMode(_ state: inout MachineState) {
    state.system.cs = .real(0, code: true)
    state.system.cr4 = CR4.osFXSR.rawValue
  }

  // MARK: Long mode

  /// Where tables and handlers are.
  private enum Place {
    static let level4: UInt64 = 0x1_0000, level3: UInt64 = 0x1_1000, level2: UInt64 = 0x1_2000,
      level1: UInt64 = 0x1_3000
    static let descriptors: UInt64 = 0x7000, gates: UInt64 = 0x6000
    static let pageFault: UInt64 = 0x1800, interrupt: UInt64 = 0x1880, undefined: UInt64 = 0x1900,
      timer: UInt64 = 0x1980
    static let user: UInt64 = 0x1b00
  }

  /// 2 MiB as they are, for all levels; behind them sixteen pages, a hole, and a device's page.
  private func makeTables() throws {
    for (place, entry) in [
      (Place.level4, Place.level3 | 7), (Place.level3, Place.level2 | 7), (Place.level2, 0x87),
      (Place.level2 + 8, Place.level1 | 7), (Place.level1 + 8 * 17, 0x10_0013),
      (Place.descriptors + 0x08, 0x00af_9b00_0000_ffff), (Place.descriptors + 0x10, 0x00cf_9300_0000_ffff),
      (Place.descriptors + 0x18, 0x00cf_f300_0000_ffff), (Place.descriptors + 0x20, 0x00af_fb00_0000_ffff),
    ] { try memory.write(entry, at: GuestPhysicalAddress(place)) }
    for page in UInt64(0)..<16 {
      try memory.write(0x8_0000 + page << 12 | 7, at: GuestPhysicalAddress(Place.level1 + 8 * page))
    }
    for (vector, handler) in [
      (6, Place.undefined), (14, Place.pageFault), (0x40, Place.interrupt), (0x41, Place.timer),
    ] as [(UInt64, UInt64)] {
      try memory.write(handler | 0x8e00_0008_0000, at: GuestPhysicalAddress(Place.gates + 16 * vector))
    }
    // add qword [rsp + 8], 2; add rsp, 8; iretq
    try memory.copy(
      [0x48, 0x83, 0x44, 0x24, 0x08, 0x02, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf],
      to: GuestPhysicalAddress(Place.pageFault))
    try memory.copy([0x48, 0xcf], to: GuestPhysicalAddress(Place.interrupt))
    // add qword [rsp], 2; iretq
    try memory.copy([0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf], to: GuestPhysicalAddress(Place.undefined))
    // The end of the interrupt, by MSR 0x80b; iretq
    try memory.copy(
      [
        0x50, 0x51, 0x52, 0x31, 0xc0, 0x31, 0xd2, 0xb9, 0x0b, 0x08, 0x00, 0x00, 0x0f, 0x30, 0x5a, 0x59, 0x58, 0x48,
        0xcf,
      ],
      to: GuestPhysicalAddress(Place.timer))
    try memory.copy([0x0f, 0x05], to: GuestPhysicalAddress(Place.user))
  }

  private static func enterLongMode(_ state: inout MachineState, behind code: SteadyCode) {
    let mode: CR0 = [.protectedMode, .extensionType, .paging]
    let extensions: CR4 = [.physicalAddressExtension, .osFXSR, .osXSAVE, .fsgsbase]
    let features: EFER = [.systemCallExtensions, .longModeEnable, .longModeActive]
    state.system.cr0 = mode.rawValue
    state.system.cr3 = Place.level4
    state.system.cr4 = extensions.rawValue
    state.system.efer = features.rawValue
    state.system.cs = .flatCode64(selector: 8)
    for segment in [\SystemRegisters.ds, \.es, \.ss] { state.system[keyPath: segment] = .flatData(selector: 0x10) }
    state.system.gdt = DescriptorTable(base: Place.descriptors, limit: 0x27)
    state.system.idt = DescriptorTable(base: Place.gates, limit: 0x42 * 16 - 1)
    state.system.apicBase = 0xfee0_0d00
    state.extended.xcr0 = 7
    state[modelSpecific: MSR.star] = 0x10 << 48 | 8 << 32
    state[modelSpecific: MSR.lstar] = SteadyCode.start + UInt64(code.bytes.count)
    state[modelSpecific: MSR.systemCallFlagMask] = 0
  }
}
