import TrivisorBoot
import Testing
import TrivisorVMM

@Suite("The memory map")
struct MemoryMapTests {
  @Test("a reserved range splits what it lies in and replaces what it covers")
  func reserve() throws {
    var map = MemoryMap(try GuestMemory(size: 16 << 20))
    map.reserve(from: 0x20_0000, to: 0x30_0000)
    map.reserve(from: 0x28_0000, to: 0x100_0000, as: .acpiTables)
    #expect(map.entries.map(\.base) == [0, 0x9fc00, 0xf_0000, 0x10_0000, 0x20_0000, 0x28_0000])
    #expect(map.entries.map(\.kind) == [.usable, .reserved, .reserved, .usable, .reserved, .acpiTables])
    #expect(map.isUsable(from: 0x10_0000, to: 0x20_0000))
    #expect(!map.isUsable(from: 0x10_0000, to: 0x20_0001))
    #expect(map.usableEnd(from: 0x10_0000) == 0x20_0000)
    #expect(map.usableEnd(from: 0x9fc00) == 0x9fc00)
  }

  @Test(
    "the first megabyte is a PC's: EBDA and firmware are reserved, nothing is said of what is between",
    arguments: [1, 16, 6 << 10] as [UInt64])
  func conventional(mebibytes: UInt64) throws {
    let map = MemoryMap(try GuestMemory(size: mebibytes << 20))
    let first = map.entries.prefix(3)
    #expect(first.map(\.base) == [0, 0x9_fc00, 0xf_0000])
    #expect(first.map(\.end) == [0x9_fc00, 0xa_0000, 0x10_0000])
    #expect(first.map(\.kind) == [.usable, .reserved, .reserved])
    #expect(!map.isUsable(from: 0xa_0000, to: 0xa_0001))
  }

  @Test("memory beyond 3 GiB goes on at 4 GiB")
  func high() throws {
    let map = MemoryMap(try GuestMemory(size: 6 << 30))
    #expect(map.entries.last?.base == 1 << 32)
    #expect(map.entries.last?.size == 3 << 30)
    #expect(!map.isUsable(from: 0xbfff_ffff, to: 0xc000_0001))
  }
}
