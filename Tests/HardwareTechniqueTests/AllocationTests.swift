import TrivisorCAllocationCounter
import TrivisorHardwareTechnique
import Synchronization
import Testing
import TrivisorVMM

/// Notes the calling thread's allocations at each access.
private final class AllocationProbe: PortDevice, MemoryDevice {
  let counts = Mutex<[UInt64]>([])

  init() { counts.withLock { $0.reserveCapacity(4096) } }

  private func note() {
    let count = allocation_count_of_this_thread()
    counts.withLock { $0.append(count) }
  }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    note()
    return 0
  }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    note()
    return value == 0xff ? .stop(.exited(code: 0)) : .none
  }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    note()
    return 0
  }

  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    note()
    return .none
  }
}

@Test("an exit allocates nothing, whatever it is for", .enabled(if: hasKVM))
func exitsAllocateNothing() throws {
  let probe = AllocationProbe()
  let bus = try Bus(
    ports: [.init("probe", base: 0x10, count: 4, device: probe)],
    memory: [.init("probe", base: GuestPhysicalAddress(0xb_0000_0000), size: 0x1000, device: probe)])
  let memory = try GuestMemory(size: 2 << 20)
  let code: [UInt8] = [
    0xb9, 0x90, 0x01,  // mov cx, 400
    0xb0, 0x01, 0xe6, 0x10,  // 1: mov al, 1; out 0x10, al
    0xe4, 0x10,  // in al, 0x10
    0xe5, 0x10,  // in ax, 0x10
    0xe5, 0x20,  // in ax, 0x20: nobody there
    0xe2, 0xf4,  // loop 1b
    0xb0, 0xff, 0xe6, 0x10,  // mov al, 0xff; out 0x10, al
  ]
  try memory.copy(code, to: GuestPhysicalAddress(0x1000))
  var configuration = MachineConfiguration()
  configuration.memorySize = memory.size
  let partition = try HardwareTechnique().makePartition(configuration, memory: memory, bus: bus)
  let threads = ProcessorThreads(
    partition: partition, count: 1,
    bootstrap: { state in
      state.general.rip = 0x1000
      state.system.cs = .real(0, code: true)
    }, whenEnded: {})
  threads.start()
  threads.resume()
  threads.join()
  let result = try #require(threads.result)
  #expect(result.ending == .stopped(.exited(code: 0)))
  let counts = probe.counts.withLock { $0 }
  #expect(counts.count == 1201)
  // The first accesses may still set something up; from then on not one allocation.
  #expect(Set(counts.dropFirst(10)).count == 1)
}
