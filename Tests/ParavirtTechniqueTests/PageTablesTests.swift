import TrivisorBoot
import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// Direct paging: what is refused, and what references hold.
struct PageTablesTests {
  private let memory: GuestMemory
  private let frames: MachineFrames
  private var tables: PageTables
  private let first = XenMachine.firstFrame

  init() throws {
    memory = try GuestMemory(size: 2 << 20)
    frames = MachineFrames(memory)
    tables = PageTables(frames)
    // 0: L4, 1: L3, 2: L2, 3: L1 with page 5 writable and the L1 itself read-only.
    try set(0, 0, first + 1, 7)
    try set(1, 0, first + 2, 7)
    try set(2, 0, first + 3, 7)
    try set(3, 0, first + 5, 7)
    try set(3, 1, first + 3, 5)
  }

  private func set(_ table: UInt64, _ index: UInt64, _ frame: UInt64, _ flags: UInt64) throws {
    try memory.write(frame << 12 | flags, at: GuestPhysicalAddress(table << 12 | index << 3))
  }

  @Test("a sound tree is accepted, and walks to its pages")
  mutating func sound() throws {
    try tables.pin(first, level: 4)
    let leaf = try #require(tables.leaf(0x123, root: first))
    #expect(PageTables.frame(leaf.entry) == first + 5)
    #expect(leaf.isWritable)
    #expect(tables.leaf(0x1123, root: first)?.isWritable == false)
    #expect(tables.leaf(0x2000, root: first).map { $0.entry & 1 } == 0)
    #expect(tables.leaf(1 << 30, root: first) == nil)
  }

  @Test("a writable mapping of a page table is refused, before and after it is one")
  mutating func writableTable() throws {
    try set(3, 2, first + 2, 7)
    #expect(throws: XenError.self) { try tables.pin(first, level: 4) }
    try set(3, 2, 0, 0)
    try tables.pin(first, level: 4)
    for table in 0...3 as ClosedRange<UInt64> {
      #expect(throws: XenError.busy) {
        try tables.update(table: first + 3, position: 2, to: (first + table) << 12 | 7)
      }
    }
  }

  @Test("a page that is mapped writable can't become a page table")
  mutating func writablePage() throws {
    try tables.pin(first, level: 4)
    #expect(throws: XenError.invalid) { try tables.pin(first + 5, level: 1) }
    try tables.update(table: first + 3, position: 0, to: (first + 5) << 12 | 5)
    #expect(tables.stale.ranges == [0..<4096])
    try tables.pin(first + 5, level: 1)
  }

  @Test("frames that the domain does not have, large pages, the hypervisor's slots and wrong levels are refused")
  mutating func bounds() throws {
    try tables.pin(first, level: 4)
    for frame in [0, first - 1, first + 512, 0xf_ffff_ffff] as [UInt64] {
      #expect(throws: XenError.notPermitted) { try tables.update(table: first + 3, position: 9, to: frame << 12 | 5) }
      #expect(throws: XenError.invalid) { try tables.update(table: first + 2, position: 9, to: frame << 12 | 5) }
    }
    #expect(throws: XenError.invalid) {
      try tables.update(table: first + 3, position: 9, to: 0xf_ffff_ffff_f005)
    }
    // Caching is for domains with devices.
    for bit in [3, 4, 7] as [UInt64] {
      #expect(throws: XenError.invalid) {
        try tables.update(table: first + 3, position: 9, to: (first + 5) << 12 | 5 | 1 << bit)
      }
    }
    #expect(throws: XenError.invalid) {
      try tables.update(table: first + 2, position: 9, to: (first + 6) << 12 | 0x87)
    }
    #expect(throws: XenError.invalid) { try tables.update(table: first, position: 256, to: (first + 6) << 12 | 7) }
    #expect(throws: XenError.invalid) { try tables.update(table: first + 1, position: 9, to: (first + 3) << 12 | 7) }
    #expect(throws: XenError.invalid) { try tables.update(table: first + 7, position: 0, to: 0) }
    #expect(throws: XenError.invalid) { try tables.pin(first, level: 4) }
  }

  @Test("a page of descriptors is checked, changed to the guest's level, and can't be written any more")
  mutating func descriptors() throws {
    try tables.pin(first, level: 4)
    #expect(throws: XenError.invalid) { try tables.getDescriptors(first + 5) }
    let code: UInt64 = 0x00af_9b00_0000_ffff
    try memory.write(code, at: GuestPhysicalAddress(6 << 12))
    try memory.write(UInt64(0x0000_8900_0000_0067), at: GuestPhysicalAddress(6 << 12 + 8))
    #expect(throws: XenError.invalid) { try tables.getDescriptors(first + 6) }
    #expect(tables.use(first + 6) == .none)
    try memory.write(UInt64(0), at: GuestPhysicalAddress(6 << 12 + 8))
    try tables.getDescriptors(first + 6)
    #expect(try memory.read(UInt64.self, at: GuestPhysicalAddress(6 << 12)) == code | 3 << 45)
    #expect(throws: XenError.busy) { try tables.update(table: first + 3, position: 9, to: (first + 6) << 12 | 7) }
    try tables.update(table: first + 3, position: 9, to: (first + 6) << 12 | 5)
    tables.put(first + 6)
    try tables.update(table: first + 3, position: 9, to: (first + 6) << 12 | 7)
  }

  @Test("an empty page becomes a table by being named, and a page again when the last name goes")
  mutating func lifetime() throws {
    try tables.pin(first, level: 4)
    try tables.update(table: first + 2, position: 1, to: (first + 8) << 12 | 7)
    #expect(tables.use(first + 8) == .table1)
    try tables.update(table: first + 2, position: 1, to: 0)
    #expect(tables.use(first + 8) == .none)
    try tables.unpin(first)
    #expect(tables.use(first + 3) == .none)
    #expect(tables.use(first + 5) == .none)
  }

  @Test("what a change makes untrue is known at every place that a table has, also those that it has got last")
  mutating func places() throws {
    try tables.pin(first, level: 4)
    let mib2: UInt64 = 2 << 20
    // The L1 at a second place, then its L2 at a second one, then its L3, which is in the upper half.
    try tables.update(table: first + 2, position: 5, to: (first + 3) << 12 | 7)
    try tables.update(table: first + 1, position: 3, to: (first + 2) << 12 | 7)
    #expect(tables.stale.isEmpty)
    try tables.update(table: first + 3, position: 0, to: 0)
    let places = [0, 5 * mib2, 3 << 30, 3 << 30 + 5 * mib2] as [UInt64]
    #expect(Set(tables.stale.ranges) == Set(places.map { $0..<($0 + 4096) }))
    tables.stale.removeAll()
    try tables.update(table: first, position: 511, to: (first + 1) << 12 | 7)
    try tables.update(table: first + 3, position: 1, to: 0)
    #expect(tables.stale.ranges.count == 8 && !tables.stale.isEverything)
    #expect(tables.stale.ranges.contains((511 << 39 + 4096)..<(511 << 39 + 8192)))
    tables.stale.removeAll()
    // One more is one too many.
    try tables.update(table: first + 2, position: 6, to: (first + 3) << 12 | 7)
    try tables.update(table: first + 3, position: 0, to: (first + 5) << 12 | 5)
    try tables.update(table: first + 3, position: 0, to: 0)
    #expect(tables.stale.isEverything)
  }

  @Test("of a table that no root leads to nothing is known to anybody; when one does, all below it has its place")
  mutating func unreachable() throws {
    try tables.pin(first + 2, level: 2)
    try tables.update(table: first + 3, position: 1, to: 0)
    #expect(tables.stale.isEmpty)
    try tables.pin(first, level: 4)
    try tables.update(table: first + 3, position: 0, to: 0)
    #expect(tables.stale.ranges == [0..<4096])
  }

  @Test("a failed update leaves every count as it was")
  mutating func rollback() throws {
    try tables.pin(first, level: 4)
    try set(9, 0, first + 10, 7)
    try set(9, 1, first, 7)
    #expect(throws: XenError.self) { try tables.update(table: first + 2, position: 1, to: (first + 9) << 12 | 7) }
    #expect(tables.use(first + 9) == .none)
    #expect(tables.use(first + 10) == .none)
    #expect(tables.leaf(0, root: first)?.isWritable == true)
  }
}
