import Foundation
import TrivisorInstructionSet
import Testing
import TrivisorVMM

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// Random bytes as kernels, in each mode: whatever they do, the process goes on and the machine stops when told to.
///
/// `TRIVISOR_STREAM_COUNT` in the environment makes more of them.
struct RandomStreamTests {
  private final class FinishPort: PortDevice {
    func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0xffff_ffff }
    func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect { .stop(.exited(code: 0)) }
  }

  private static let size: UInt64 = 4 << 20

  private func fill(_ memory: GuestMemory, _ random: inout SeededGenerator, mode: CPUMode) throws {
    var bytes = [UInt8](repeating: 0, count: Int(Self.size))
    bytes.withUnsafeMutableBytes { buffer in
      for offset in stride(from: 0, to: buffer.count, by: 8) {
        buffer.storeBytes(of: random.next(), toByteOffset: offset, as: UInt64.self)
      }
    }
    try memory.copy(bytes, to: GuestPhysicalAddress(0))
    guard mode == .bits64 else { return }
    // The first 4 MiB, and the same once more above.
    try memory.write(UInt64(0x2007), at: GuestPhysicalAddress(0x1000))
    try memory.write(UInt64(0x3007), at: GuestPhysicalAddress(0x2000))
    for index in UInt64(0)..<4 {
      try memory.write((index & 1) << 21 | 0x87, at: GuestPhysicalAddress(0x3000 + 8 * index))
    }
  }

  private func state(_ mode: CPUMode, _ random: inout SeededGenerator) -> MachineState {
    var state = MachineState()
    state.general.rip = 0x7c00
    state.general.rsp = 0x7000
    (state.general.rax, state.general.rbx, state.general.rcx) = (random.next(), random.next(), random.next() & 0xffff)
    (state.general.rsi, state.general.rdi, state.general.rbp) = (random.next(), random.next() & 0xfffff, random.next())
    state.system.gdt = DescriptorTable(base: 0x5000, limit: 0xffff)
    state.system.idt = DescriptorTable(base: mode == .bits16 ? 0 : 0x9000, limit: 0x7ff)
    guard mode != .bits16 else {
      state.system.cs = .real(0, code: true)
      return state
    }
    state.system.cr0 = 0x31
    state.system.cr4 = 0x620
    for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
      state.system[keyPath: segment] = .flatData(selector: 0x10)
    }
    state.system.cs = .flatCode32(selector: 8)
    guard mode == .bits64 else { return state }
    state.system.cs = .flatCode64(selector: 8)
    state.system.cr0 |= 0x8000_0000
    state.system.cr3 = 0x1000
    state.system.efer = 0xd01
    return state
  }

  @Test("random bytes neither break nor hold the process", arguments: [CPUMode.bits16, .bits32, .bits64])
  func run(_ mode: CPUMode) throws {
    let setting = ProcessInfo.processInfo.environment["TRIVISOR_STREAM_COUNT"].flatMap { UInt64($0) }
    for seed in 0..<(setting ?? 60) {
      var random = SeededGenerator(state: seed)
      let memory = try GuestMemory(size: Self.size)
      try fill(memory, &random, mode: mode)
      let bus = try Bus(ports: [.init("finish", base: 0xf4, count: 1, device: FinishPort())])
      var configuration = MachineConfiguration()
      configuration.memorySize = memory.size
      let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: bus)
      let processor = try partition.makeProcessor(index: 0)
      try processor.writeState(state(mode, &random))
      let handle = processor.stopHandle
      let watch = Thread {
        Thread.sleep(forTimeInterval: 0.02)
        handle.requestStop()
      }
      watch.start()
      let begin = ContinuousClock.now
      let reason = try processor.run()
      #expect(ContinuousClock.now - begin < .seconds(10))
      if case .crashed(let report) = reason {
        #expect(!report.summary.contains("fault of the host"), "seed \(seed): \(report.summary)")
      }
    }
  }
}
