import Boot
import Testing
import VMM

@Suite("The memory map")
struct MemoryMapTests {
  @Test("a reserved range splits what it lies in and replaces what it covers")
  func reserve() throws {
    var map = MemoryMap(try GuestMemory(size: 16 << 20))
    map.reserve(from: 0x20_0000, to: 0x30_0000)
    map.reserve(from: 0x28_0000, to: 0x100_0000, as: .acpiTables)
    #expect(map.entries.map(\.base) == [0, 0x9fc00, 0x10_0000, 0x20_0000, 0x28_0000])
    #expect(map.entries.map(\.kind) == [.usable, .reserved, .usable, .reserved, .acpiTables])
    #expect(map.isUsable(from: 0x10_0000, to: 0x20_0000))
    #expect(!map.isUsable(from: 0x10_0000, to: 0x20_0001))
    #expect(map.usableEnd(from: 0x10_0000) == 0x20_0000)
    #expect(map.usableEnd(from: 0x9fc00) == 0x9fc00)
  }

  @Test("memory beyond 3 GiB goes on at 4 GiB")
  func high() throws {
    let map = MemoryMap(try GuestMemory(size: 6 << 30))
    #expect(map.entries.last?.base == 1 << 32)
    #expect(map.entries.last?.size == 3 << 30)
    #expect(!map.isUsable(from: 0xbfff_ffff, to: 0xc000_0001))
  }
}
