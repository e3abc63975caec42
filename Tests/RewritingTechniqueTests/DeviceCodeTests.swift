import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorRewritingTechnique

/// Code that a device holds: a PC's ROM, for instance.
struct DeviceCodeTests {
  /// Memory of a device's.
  private final class Store: MemoryDevice {
    private let bytes: Mutex<[UInt8]>

    init(_ bytes: [UInt8]) { self.bytes = Mutex(bytes) }

    func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
      bytes.withLock { bytes in
        (0..<width.rawValue).reduce(0) { value, byte in
          let index = Int(offset) + byte
          return value | UInt64(bytes.indices.contains(index) ? bytes[index] : 0xff) << UInt64(8 * byte)
        }
      }
    }

    func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
      bytes.withLock { bytes in
        for byte in 0..<width.rawValue where bytes.indices.contains(Int(offset) + byte) {
          bytes[Int(offset) + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte))
        }
      }
      return .none
    }
  }

  /// Ends the machine with what is written.
  private final class End: PortDevice {
    func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }
    func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
      .stop(.exited(code: UInt8(truncatingIfNeeded: value)))
    }
  }

  private static let size: UInt64 = 4 << 20

  /// Runs 32-bit code, without paging, from RAM or from the device at 0xd000_0000; another one begins where RAM ends.
  private func run(
    _ code: [UInt8], at start: UInt64, device: [UInt8] = [], behindMemory: [UInt8] = []
  ) throws -> StopReason {
    let memory = try GuestMemory(size: Self.size)
    if !code.isEmpty { try memory.copy(code, to: GuestPhysicalAddress(start)) }
    let bus = try Bus(
      ports: [.init("end", base: 0xf4, count: 4, device: End())],
      memory: [
        .init("device", base: GuestPhysicalAddress(0xd000_0000), size: 4096, device: Store(device)),
        .init("behind", base: GuestPhysicalAddress(Self.size), size: 4096, device: Store(behindMemory)),
      ])
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try RewritingTechnique().makePartition(configuration, memory: memory, bus: bus)
    let processor = try partition.makeProcessor(index: 0)
    var state = MachineState()
    state.general.rip = start
    state.general.rsp = 0x7000
    state.system.cr0 = 0x31
    state.system.cr4 = 0x600
    for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
      state.system[keyPath: segment] = .flatData(selector: 0x10)
    }
    state.system.cs = .flatCode32(selector: 8)
    try processor.writeState(state)
    return try processor.run()
  }

  @Test("a loop, and a call of code in RAM")
  func loop() throws {
    let device: [UInt8] = [
      0xb0, 0x28,  // MOV AL, 28h
      0xb9, 0x02, 0, 0, 0,  // MOV ECX, 2
      0xfe, 0xc0, 0xe2, 0xfc,  // again: INC AL; LOOP again
      0xbb, 0x07, 0x7c, 0, 0, 0xff, 0xd3,  // MOV EBX, 7C07h; CALL EBX
      0xe6, 0xf4,  // OUT F4h, AL
    ]
    // MOV EAX, D0000000h; JMP EAX; at 7C07h INC AL; RET.
    let code: [UInt8] = [0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0, 0xfe, 0xc0, 0xc3]
    #expect(try run(code, at: 0x7c00, device: device) == .exited(code: 0x2b))
  }

  @Test("what it stores into its next instruction counts")
  func changes() throws {
    let device: [UInt8] = [
      0xb9, 0x02, 0, 0, 0,  // MOV ECX, 2
      0xb0, 0x01,  // again: MOV AL, 1; the operand is replaced
      0xfe, 0x05, 0x06, 0, 0, 0xd0,  // INC BYTE of it
      0xe2, 0xf6,  // LOOP again
      0xe6, 0xf4,  // OUT F4h, AL
    ]
    #expect(try run([], at: 0xd000_0000, device: device) == .exited(code: 2))
  }

  @Test("an instruction that begins in RAM and ends behind it")
  func straddles() throws {
    #expect(try run([0xb0], at: Self.size - 1, behindMemory: [0x2b, 0xe6, 0xf4]) == .exited(code: 0x2b))
    #expect(try run([0x90], at: Self.size - 1, behindMemory: [0xb0, 0x2c, 0xe6, 0xf4]) == .exited(code: 0x2c))
  }
}
