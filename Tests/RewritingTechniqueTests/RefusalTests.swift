import Testing
import TrivisorVMM

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// What the engine does not do is refused by name: the run ends, and nothing is half done.
struct RefusalTests {
  private static let size: UInt64 = 4 << 20

  /// Runs 32-bit code at 0x7c00, without paging.
  private func run(
    _ code: [UInt8], at start: UInt64 = 0x7c00, _ change: (inout MachineState, GuestMemory) throws -> Void
  )
    throws -> StopReason
  {
    let memory = try GuestMemory(size: Self.size)
    try memory.copy(code, to: GuestPhysicalAddress(start))
    let bus = try Bus(ports: [])
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: bus)
    let processor = try partition.makeProcessor(index: 0)
    var state = MachineState()
    state.general.rip = start
    state.general.rsp = 0x7000
    state.system.cr0 = 0x31
    state.system.cr4 = 0x600
    state.system.gdt = DescriptorTable(base: 0x5000, limit: 0xff)
    state.system.idt = DescriptorTable(base: 0x6000, limit: 0x7ff)
    for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
      state.system[keyPath: segment] = .flatData(selector: 0x10)
    }
    state.system.cs = .flatCode32(selector: 8)
    // A TSS of 32 bits, and a task gate that leads to it.
    try memory.write(0x0000_8900_4000_0067 as UInt64, at: GuestPhysicalAddress(0x5018))
    try memory.write(0x0000_8500_0018_0000 as UInt64, at: GuestPhysicalAddress(0x5020))
    try memory.write(0x0000_8500_0018_0000 as UInt64, at: GuestPhysicalAddress(0x6000 + 8 * 0x20))
    try change(&state, memory)
    try processor.writeState(state)
    return try processor.run()
  }

  private func expect(_ reason: StopReason, _ name: String) {
    guard case .crashed(let report) = reason else {
      Issue.record("not refused: \(reason)")
      return
    }
    #expect(report.summary.contains("\(name) is not translated yet at RIP"), "\(report.summary)")
  }

  @Test("virtual-8086 mode")
  func virtual8086() throws {
    // push $0x20000; push $8; push $0; iret
    let code: [UInt8] = [0x68, 0, 0, 2, 0, 0x6a, 8, 0x6a, 0, 0xcf]
    expect(try run(code) { _, _ in }, "virtual-8086 mode")
  }

  @Test("task switches, by a jump, a call, an interrupt and a return")
  func tasks() throws {
    expect(try run([0xea, 0, 0, 0, 0, 0x18, 0]) { _, _ in }, "a task switch")
    expect(try run([0x9a, 0, 0, 0, 0, 0x20, 0]) { _, _ in }, "a task gate")
    expect(try run([0xcd, 0x20]) { _, _ in }, "a task gate")
    // push $0x4002; popf; iret
    expect(try run([0x68, 2, 0x40, 0, 0, 0x9d, 0xcf]) { _, _ in }, "a task switch")
  }

  @Test("x87 errors by IRQ 13")
  func floatingPointInterrupt() throws {
    // fninit; fldcw 0x7d00; fld1; fldz; fdivp; fwait
    let code: [UInt8] = [0xdb, 0xe3, 0xd9, 0x2d, 0, 0x7d, 0, 0, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b]
    let reason = try run(code) { state, memory in
      state.system.cr0 &= ~0x20
      try memory.write(0x0360 as UInt16, at: GuestPhysicalAddress(0x7d00))
    }
    expect(reason, "an x87 error reported by IRQ 13")
  }

  @Test(
    "code in device memory: by a jump, by running off the end of memory, by an instruction that lies half beyond it")
  func deviceMemory() throws {
    // jmp to 0xd0000000
    expect(try run([0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0]) { _, _ in }, "code in device memory")
    expect(try run([0x90, 0x90], at: Self.size - 2) { _, _ in }, "code in device memory")
    expect(try run([0x90, 0xb8], at: Self.size - 2) { _, _ in }, "code in device memory")
  }

  @Test("a second processor")
  func processors() throws {
    let memory = try GuestMemory(size: Self.size)
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    _ = try partition.makeProcessor(index: 0)
    #expect {
      _ = try partition.makeProcessor(index: 1)
    } throws: {
      "\($0)".contains("the rewriting technique runs one processor")
    }
  }
}
