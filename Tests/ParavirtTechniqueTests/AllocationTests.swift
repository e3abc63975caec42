import TrivisorBoot
import TrivisorCAllocationCounter
import TrivisorDevices
import TrivisorEmbeddedGuests
import TrivisorPlatform
import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorParavirtTechnique

/// Notes the allocations of the processor's thread at each line of a guest's.
private final class AllocationSink: SerialSink {
  let counts = Mutex<[UInt64]>([])

  init() { counts.withLock { $0.reserveCapacity(4096) } }

  func write(_ bytes: UnsafeRawBufferPointer) {
    let count = allocation_count_of_this_thread()
    counts.withLock { $0.append(count) }
  }

  func finish() {}
  func abandon() {}
}

@Test("a trap allocates nothing in steady state: hypercalls, emulation, exceptions, mappings, user code and back")
func trapsAllocateNothing() throws {
  let bytes = try #require(EmbeddedGuest.named("attack")?.paravirtualBytes)
  var request = BootRequest(image: try BootImage(name: "attack", bytes: bytes))
  request.commandLine = "steady"
  var configuration = PlatformConfiguration(boot: request)
  configuration.machine.memorySize = 64 << 20
  let sink = AllocationSink()
  configuration.serialPorts = [SerialPortConfiguration(output: sink)]
  var options = RunOptions()
  options.timeLimit = 300_000_000_000
  let result = try VirtualMachine(configuration, technique: ParavirtTechnique()).runOnThisThread(options)
  #expect(result.outcome == .exited(code: 0))
  let counts = sink.counts.withLock { $0 }
  #expect(counts.count >= 30)
  // The first rounds set up processes and tables; "Through." and the exit code come after the last.
  let rounds = counts.dropFirst(10).dropLast(2)
  #expect(Set(rounds).count == 1, "\(zip(rounds.dropFirst(), rounds).map { $0 &- $1 })")
}
