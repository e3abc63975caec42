import Synchronization
import Testing
import TrivisorVMM

/// Answers with its offsets and keeps what is written.
private final class Recorder: PortDevice, MemoryDevice {
  let accesses = Mutex<[String]>([])

  private func note(_ kind: String, _ offset: UInt64, _ width: AccessWidth, _ value: UInt64? = nil) {
    accesses.withLock { $0.append("\(kind)\(offset)/\(width.rawValue)" + (value.map { "=\($0)" } ?? "")) }
  }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    note("r", UInt64(offset), width)
    return 0xaaaa_aa00 | UInt32(offset)
  }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    note("w", UInt64(offset), width, UInt64(value))
    return value == 0x77 ? .stop(.shutdown) : .none
  }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    note("r", offset, width)
    return 0xaaaa_aaaa_aaaa_aa00 | offset
  }

  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    note("w", offset, width, value)
    return .none
  }
}

@Suite("The buses")
struct BusTests {
  @Test("a port access gets the device's offset, its width and no more bits than that")
  func ports() throws {
    let device = Recorder()
    let bus = try Bus(ports: [.init("device", base: 0x100, count: 4, device: device)])
    #expect(bus.readPort(0x102, width: .byte) == 0x02)
    #expect(bus.readPort(0x100, width: .doubleword) == 0xaaaa_aa00)
    #expect(bus.writePort(0x101, 0xffff_ff41, width: .byte) == .none)
    #expect(bus.writePort(0x101, 0x77, width: .byte) == .stop(.shutdown))
    #expect(device.accesses.withLock { $0 } == ["r2/1", "r0/4", "w1/1=65", "w1/1=119"])
  }

  @Test("what nobody claims reads as ones")
  func unclaimed() throws {
    let bus = try Bus()
    #expect(bus.readPort(0xffff, width: .word) == 0xffff)
    #expect(bus.readMemory(GuestPhysicalAddress(.max), width: .quadword) == .max)
    #expect(bus.writeMemory(GuestPhysicalAddress(.max), 0, width: .quadword) == .none)
  }

  @Test("an access over a border is split into bytes, each to its owner")
  func borders() throws {
    let (low, high) = (Recorder(), Recorder())
    let bus = try Bus(ports: [
      .init("low", base: 0x10, count: 2, device: low), .init("high", base: 0x12, count: 1, device: high),
    ])
    #expect(bus.readPort(0x11, width: .doubleword) == 0xffff_0001)
    #expect(low.accesses.withLock { $0 } == ["r1/1"])
    #expect(high.accesses.withLock { $0 } == ["r0/1"])
    #expect(bus.readPort(0x0f, width: .word) == 0x00ff)
    let memory = try Bus(memory: [.init("last", base: GuestPhysicalAddress(.max), size: 1, device: low)])
    #expect(memory.readMemory(GuestPhysicalAddress(.max - 1), width: .word) == 0x00ff)
  }

  @Test("claims that overlap, are empty or leave the bus are refused by name")
  func conflicts() throws {
    let device = Recorder()
    #expect(throws: BusConflict.self) {
      try Bus(ports: [
        .init("one", base: 0x10, count: 8, device: device), .init("two", base: 0x17, count: 1, device: device),
      ])
    }
    #expect(throws: BusConflict.self) { try Bus(ports: [.init("none", base: 1, count: 0, device: device)]) }
    #expect(throws: BusConflict.self) { try Bus(ports: [.init("wide", base: 0xffff, count: 2, device: device)]) }
    #expect(throws: BusConflict.self) {
      try Bus(memory: [.init("wide", base: GuestPhysicalAddress(.max), size: 2, device: device)])
    }
  }
}
