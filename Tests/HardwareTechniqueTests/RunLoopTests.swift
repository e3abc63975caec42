import Glibc
import TrivisorHardwareTechnique
import Synchronization
import Testing
import TrivisorVMM

/// Whether this host lets us use KVM at all; without it these tests have nothing to run on.
let hasKVM = access("/dev/kvm", R_OK | W_OK) == 0

/// Keeps what is written to it; ends the machine when byte 0xff comes.
private final class Recorder: PortDevice {
  let written = Mutex<[UInt32]>([])

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0x1234_5678 }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    written.withLock { $0.append(value) }
    return value == 0xff ? .stop(.exited(code: 7)) : .none
  }
}

@Suite("KVM's run loop", .enabled(if: hasKVM))
struct RunLoopTests {
  /// Runs real-mode code at 0x1000 and gives what it wrote to port 0x10 and how it ended.
  private func run(
    _ code: [UInt8], stopAfter milliseconds: Int? = nil
  ) throws -> (written: [UInt32], ending: ProcessorThreads.Ending) {
    let recorder = Recorder()
    let bus = try Bus(ports: [.init("recorder", base: 0x10, count: 4, device: recorder)])
    let memory = try GuestMemory(size: 2 << 20)
    try memory.copy(code, to: GuestPhysicalAddress(0x1000))
    let technique = HardwareTechnique()
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try technique.makePartition(configuration, memory: memory, bus: bus)
    let threads = ProcessorThreads(
      partition: partition, count: 1,
      bootstrap: { state in
        state.general.rip = 0x1000
        state.system.cs = .real(0, code: true)
      }, whenEnded: {})
    threads.start()
    threads.resume()
    if let milliseconds {
      usleep(UInt32(milliseconds) * 1000)
      threads.stop(.cancelled)
    }
    threads.join()
    let ending = try #require(threads.result).ending
    return (recorder.written.withLock { $0 }, ending)
  }

  @Test("a port write reaches the device, and the device can end the machine")
  func portWrite() throws {
    // mov al, 0x2a; out 0x10, al; in eax, 0x10; out 0x10, eax; mov al, 0xff; out 0x10, al
    let result = try run([0xb0, 0x2a, 0xe6, 0x10, 0x66, 0xe5, 0x10, 0x66, 0xe7, 0x10, 0xb0, 0xff, 0xe6, 0x10])
    #expect(result.written == [0x2a, 0x1234_5678, 0xff])
    #expect(result.ending == .stopped(.exited(code: 7)))
  }

  @Test("an endless loop with interrupts off is stopped from outside")
  func endlessLoop() throws {
    // cli; jmp .
    let result = try run([0xfa, 0xeb, 0xfe], stopAfter: 30)
    #expect(result.ending == .cancelled)
  }
}
