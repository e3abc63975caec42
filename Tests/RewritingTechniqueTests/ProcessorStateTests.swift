import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

@Suite("a processor's state as a value")
struct ProcessorStateTests {
  private func makeProcessor() throws -> TranslatedProcessor {
    let memory = try GuestMemory(size: 4 << 20)
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    return try #require(try partition.makeProcessor(index: 0) as? RewritingProcessor).engine
  }

  /// All of it but the clock, which goes on.
  private func state(of processor: TranslatedProcessor) throws -> MachineState {
    var state = processor.readState()
    state[modelSpecific: MSR.timeStampCounter] = nil
    return state
  }

  @Test("the family's registers, machine check banks, branch records and single-step flags are in it")
  func carried() throws {
    let first = try makeProcessor()
    let bank = FamilyRegister.banks.lowerBound
    for (index, value) in [
      (FamilyRegister.hardwareConfiguration, FamilyRegister.writableBankStatus), (bank, .max), (bank + 1, 0x1234),
      (FamilyRegister.decoderConfiguration, 0x12), (FamilyRegister.machineCheckStatus, 4),
      (FamilyRegister.machineCheckMasks, 1), (BranchRecord.control, 3), (MSR.memoryTypeVariableRanges.lowerBound, 6),
      (MSR.star, 0x23_0010_0000_0000), (MSR.timeStampAuxiliary, 7),
    ] as [(UInt32, UInt64)] {
      try ModelSpecificAccess(context: first).write(index, value)
    }
    first.noteBranch(from: 0x1000, to: 0x2000)
    first.flags.formUnion([.trap, .resume])
    (first.shadow, first.accessHits) = (.everything, [.breakpoint0, .breakpoint2])
    let saved = try state(of: first)
    let second = try makeProcessor()
    // What was there before goes.
    try ModelSpecificAccess(context: second).write(FamilyRegister.banks.lowerBound + 5, 0)
    try ModelSpecificAccess(context: second).write(FamilyRegister.banks.lowerBound + 4, 9)
    try second.writeState(saved)
    #expect(try state(of: second) == saved)
    #expect(try ModelSpecificAccess(context: second).read(bank + 1) == 0x1234)
    #expect(try ModelSpecificAccess(context: second).read(bank + 4) == 0)
    #expect(second.branchRecord.stepsBranches && second.branchRecord.read(0x1dc) == 0x2000)
    #expect(second.accessHits == [.breakpoint0, .breakpoint2] && second.flags.isSuperset(of: [.trap, .resume]))
  }

  @Test(
    "registers that are not there, or can't have such a value, are refused before anything changes",
    arguments: [
      (0x1234_5678, 0), (FamilyRegister.topOfMemory, 0), (FamilyRegister.hardwareConfiguration, .max),
      (FamilyRegister.machineCheckStatus, 8), (MSR.lstar, 1 << 60), (MSR.systemCallFlagMask, 1 << 32),
      (MSR.efer, 0xd00),
    ] as [(UInt32, UInt64)])
  func refused(index: UInt32, value: UInt64) throws {
    let processor = try makeProcessor()
    let before = try state(of: processor)
    var wrong = before
    wrong.general.rax = 77
    wrong[modelSpecific: index] = value
    #expect(throws: TechniqueFailure.self) { try processor.writeState(wrong) }
    #expect(try state(of: processor) == before)
  }
}
