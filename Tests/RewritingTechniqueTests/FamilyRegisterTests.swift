import Testing
import TrivisorVMM

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

@Suite("registers of the processor's family")
struct FamilyRegisterTests {
  private let processor: TranslatedProcessor

  init() throws {
    let memory = try GuestMemory(size: 4 << 20)
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    processor = try #require(try partition.makeProcessor(index: 0) as? RewritingProcessor).engine
  }

  private func registers(of processor: TranslatedProcessor) -> ModelSpecificAccess<TranslatedProcessor> {
    ModelSpecificAccess(context: processor)
  }

  private func isRefused(_ body: () throws(Interruption) -> Void) -> Bool {
    do throws(Interruption) {
      try body()
      return false
    } catch {
      if case .exception(let exception) = error { return exception.vector == 13 }
      return false
    }
  }

  @Test("each register that the family has can be read, and takes what it holds")
  func readAndWrite() throws {
    let indices =
      Array(FamilyRegister.performanceCounters) + Array(FamilyRegister.ioRanges) + Array(FamilyRegister.name)
      + Array(FamilyRegister.ioTraps) + Array(FamilyRegister.performanceStates) + Array(FamilyRegister.managementArea)
      + FamilyRegister.unitConfigurations.flatMap { Array($0) } + Array(FamilyRegister.banks)
      + [
        FamilyRegister.systemConfiguration, FamilyRegister.topOfMemory, FamilyRegister.topOfHighMemory,
        FamilyRegister.northBridgeConfiguration, FamilyRegister.hardwareConfiguration,
        FamilyRegister.mappedConfiguration, FamilyRegister.selfTest, FamilyRegister.managementBase,
        FamilyRegister.virtualMachineControl, FamilyRegister.virtualMachineSaveArea,
        FamilyRegister.machineCheckStatus, FamilyRegister.machineCheckControl,
      ]
    for index in indices {
      let value = try registers(of: processor).read(index)
      try registers(of: processor).write(index, value)
      #expect(try registers(of: processor).read(index) == value, "MSR \(index)")
    }
  }

  @Test("counters stay at 0, DE_CFG keeps what is written, HWCR only what it may")
  func kept() throws {
    try registers(of: processor).write(FamilyRegister.performanceCounters.lowerBound, .max)
    #expect(try registers(of: processor).read(FamilyRegister.performanceCounters.lowerBound) == 0)
    #expect(try registers(of: processor).read(FamilyRegister.decoderConfiguration) == 2)
    try registers(of: processor).write(FamilyRegister.decoderConfiguration, 0x12)
    #expect(try registers(of: processor).read(FamilyRegister.decoderConfiguration) == 0x12)
    try registers(of: processor).write(FamilyRegister.hardwareConfiguration, .max)
    #expect(
      try registers(of: processor).read(FamilyRegister.hardwareConfiguration)
        == 1 << 24 | FamilyRegister.writableBankStatus)
  }

  @Test("the name is CPUID's, the tops of memory are the machine's")
  func identity() throws {
    var name: [UInt8] = []
    for index in FamilyRegister.name {
      let value = try registers(of: processor).read(index)
      name += (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }
    #expect(name.prefix(8) == ArraySlice("Trivisor".utf8))
    #expect(try registers(of: processor).read(FamilyRegister.topOfMemory) == 4 << 20)
    #expect(try registers(of: processor).read(FamilyRegister.topOfHighMemory) == 0)
  }

  @Test("as many banks as are announced; a status can be made up only if HWCR says so")
  func banks() throws {
    let capability = try registers(of: processor).read(FamilyRegister.machineCheckCapability)
    #expect(capability & 0xff == UInt64(FamilyRegister.bankCount))
    let behind = FamilyRegister.banks.upperBound
    #expect(isRefused { () throws(Interruption) in _ = try registers(of: processor).read(behind) })
    let status = FamilyRegister.banks.lowerBound + 1
    #expect(isRefused { () throws(Interruption) in try registers(of: processor).write(status, 1) })
    try registers(of: processor).write(FamilyRegister.hardwareConfiguration, FamilyRegister.writableBankStatus)
    try registers(of: processor).write(status, 1)
    #expect(try registers(of: processor).read(status) == 1)
  }

  @Test("what the family does not have, or needs a CPUID bit for, is #GP")
  func missing() {
    for index: UInt32 in [0xc001_0008, 0xc001_0020, 0xc001_0140, 0xc001_0200, 0xc001_1030, 0x1234_5678, 0xe7] {
      #expect(isRefused { () throws(Interruption) in _ = try registers(of: processor).read(index) }, "MSR \(index)")
    }
    #expect(!isRefused { () throws(Interruption) in try registers(of: processor).write(0xc001_0020, 0) })
  }
}
