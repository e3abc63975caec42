import Testing
import TrivisorVMM

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// What the engine does not do is refused by name: the run ends, and nothing is half done.
struct RefusalTests {
  private static let size: UInt64 = 4 << 20

  @Test("a processor that the machine has not")
  func processors() throws {
    let memory = try GuestMemory(size: Self.size)
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    _ = try partition.makeProcessor(index: 0)
    #expect {
      _ = try partition.makeProcessor(index: 1)
    } throws: {
      "\($0)".contains("making processor 1 failed: the machine has 1")
    }
  }

  @Test("more processors than there are bits for")
  func tooMany() {
    var configuration = MachineConfiguration()
    configuration.processorCount = ProcessorRendezvous.processorLimit
    #expect(RewritingTechnique().findings(for: configuration).isEmpty)
    configuration.processorCount += 1
    #expect(RewritingTechnique().findings(for: configuration).map(\.subject) == [.processors])
  }
}
