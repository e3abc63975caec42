import Testing
import TrivisorVMM

@Suite("Guest memory")
struct GuestMemoryTests {
  @Test("memory above 3 GiB goes on at 4 GiB, and the hole is no memory")
  func regions() throws {
    let memory = try GuestMemory(size: 5 << 30)
    #expect(memory.regions.map(\.base) == [GuestPhysicalAddress(0), GuestPhysicalAddress(4 << 30)])
    #expect(memory.regions.map(\.size) == [3 << 30, 2 << 30])
    try memory.write(UInt32(0x1234_5678), at: GuestPhysicalAddress(6 << 30 - 4))
    #expect(try memory.read(UInt32.self, at: GuestPhysicalAddress(6 << 30 - 4)) == 0x1234_5678)
    #expect(throws: GuestMemoryFault.self) { try memory.read(UInt8.self, at: GuestPhysicalAddress(3 << 30)) }
    #expect(throws: GuestMemoryFault.self) { try memory.read(UInt8.self, at: GuestPhysicalAddress(6 << 30)) }
  }

  @Test("64 GiB are configured without being committed")
  func large() throws {
    let memory = try GuestMemory(size: 64 << 30)
    try memory.write(UInt8(1), at: GuestPhysicalAddress(65 << 30 - 1))
  }

  @Test("an access that leaves a region stores nothing")
  func boundaries() throws {
    let memory = try GuestMemory(size: 4 << 30)
    let last = GuestPhysicalAddress(3 << 30 - 2)
    #expect(throws: GuestMemoryFault.self) { try memory.write(UInt32.max, at: last) }
    #expect(try memory.read(UInt16.self, at: last) == 0)
    #expect(throws: GuestMemoryFault.self) { try memory.copy([1, 2, 3], to: last) }
    #expect(throws: GuestMemoryFault.self) { try memory.clear(GuestPhysicalAddress(.max), count: 2) }
    #expect(throws: GuestMemoryFault.self) { try memory.bytes(at: GuestPhysicalAddress(0), count: -1) }
    #expect(memory.host(GuestPhysicalAddress(0), count: .max) == nil)
    #expect(memory.host(GuestPhysicalAddress(3 << 30), count: 0) != nil)
  }

  @Test("sizes that are no memory are refused", arguments: [UInt64(0), 4095, 1 << 63, .max])
  func sizes(size: UInt64) {
    #expect(throws: GuestMemoryFailure.self) { try GuestMemory(size: size) }
  }

  @Test("integers are little-endian at any alignment")
  func byteOrder() throws {
    let memory = try GuestMemory(size: 1 << 20)
    try memory.write(UInt64(0x0102_0304_0506_0708), at: GuestPhysicalAddress(3))
    #expect(try memory.bytes(at: GuestPhysicalAddress(3), count: 8) == [8, 7, 6, 5, 4, 3, 2, 1])
    #expect(try memory.read(UInt16.self, at: GuestPhysicalAddress(4)) == 0x0607)
  }
}
