import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

/// Four levels at 0x1000 to 0x4000; the case sets the last one's entry for linear 0x5000.
struct GuestMMUTests {
  private let memory: GuestMemory
  private let mmu: GuestMMU

  init() throws {
    memory = try GuestMemory(size: 2 << 20)
    mmu = GuestMMU(memory: PhysicalMemory(memory))
    for level in UInt64(1)...3 { try memory.write((level + 1) << 12 | 7, at: GuestPhysicalAddress(level << 12)) }
    mmu.registers = PagingRegisters(
      cr0: [.paging, .writeProtect, .protectedMode], cr3: 0x1000, cr4: .physicalAddressExtension,
      efer: [.longModeEnable, .longModeActive, .noExecute])
  }

  private func map(_ entry: UInt64) throws { try memory.write(entry, at: GuestPhysicalAddress(0x4028)) }

  private func code(_ access: MemoryAccess, isUser: Bool = false, overridesSMAP: Bool = false) -> UInt32? {
    do throws(GuestException) {
      _ = try mmu.translate(0x5678, access, isUser: isUser, overridesSMAP: overridesSMAP)
      return nil
    } catch {
      #expect(error.vector == 14)
      #expect(error.address == 0x5678)
      return error.errorCode
    }
  }

  @Test func translatesAndSetsAccessedAndDirty() throws {
    try map(0x9007)
    #expect(try mmu.translate(0x5678, .read, isUser: true, overridesSMAP: false) == 0x9678)
    #expect(try memory.read(UInt64.self, at: GuestPhysicalAddress(0x4028)) == 0x9027)
    #expect(try memory.read(UInt64.self, at: GuestPhysicalAddress(0x1000)) == 0x2027)
    _ = try mmu.translate(0x5678, .write, isUser: true, overridesSMAP: false)
    #expect(try memory.read(UInt64.self, at: GuestPhysicalAddress(0x4028)) == 0x9067)
  }

  @Test func aFaultLeavesTheTablesAlone() throws {
    try map(0x9005)
    #expect(code(.write, isUser: true) == 7)
    #expect(try memory.read(UInt64.self, at: GuestPhysicalAddress(0x4028)) == 0x9005)
  }

  @Test func pagesOfOneGibibyteExistWhereTheyAreAnnounced() throws {
    try memory.write(0x87 as UInt64, at: GuestPhysicalAddress(0x2000))
    #expect(code(.read) == nil)
    #expect(mmu.pageShift == 30)
    mmu.hasGibibytePages = false
    #expect(code(.read) == 9)
  }

  @Test func errorCodes() throws {
    try map(0x9006)
    #expect(code(.read) == 0)
    #expect(code(.write, isUser: true) == 6)
    #expect(code(.execute, isUser: true) == 0x14)
    try map(0x9003)
    #expect(code(.read, isUser: true) == 5)
    try map(1 << 63 | 0x9007)
    #expect(code(.execute) == 0x11)
    try map(1 << 45 | 0x9007)
    #expect(code(.read) == 9)
    mmu.registers.efer.remove(.noExecute)
    try map(1 << 63 | 0x9007)
    #expect(code(.read) == 9)
  }

  @Test func writeProtectionForTheSupervisor() throws {
    try map(0x9001)
    #expect(code(.write) == 3)
    mmu.registers.cr0.remove(.writeProtect)
    #expect(code(.write) == nil)
  }

  @Test func supervisorModeProtections() throws {
    try map(0x9007)
    mmu.registers.cr4.formUnion([.supervisorExecutionPrevention, .supervisorAccessPrevention])
    #expect(code(.read) == 1)
    #expect(code(.read, overridesSMAP: true) == nil)
    #expect(code(.execute) == 0x11)
    #expect(code(.execute, isUser: true) == nil)
  }

  @Test func protectionKeys() throws {
    try map(5 << 59 | 0x9007)
    mmu.pkru = PKRU(rawValue: 0x400)
    #expect(code(.read, isUser: true) == nil && mmu.key == 0)
    mmu.registers.cr4.insert(.protectionKeys)
    #expect(code(.read, isUser: true) == 0x25)
    #expect(code(.write) == 0x23)
    #expect(code(.execute, isUser: true) == nil)
    mmu.pkru = PKRU(rawValue: 0x800)
    #expect(code(.read, isUser: true) == nil && mmu.key == 5)
    #expect(code(.write, isUser: true) == 0x27)
    #expect(code(.write) == 0x23)
    mmu.registers.cr0.remove(.writeProtect)
    #expect(code(.write) == nil)
    // A supervisor's page, and key 0.
    try map(5 << 59 | 0x9003)
    mmu.pkru = PKRU(rawValue: 0xc00)
    #expect(code(.write) == nil && mmu.key == 0)
    try map(0x9007)
    #expect(code(.read, isUser: true) == nil)
    mmu.pkru = PKRU(rawValue: 1)
    #expect(code(.read, isUser: true) == 0x25)
  }

  @Test func keysWithLess() {
    let some = PKRU(rawValue: 0b00_01_10_00)
    #expect(some.keysWithLess(than: .none) == 0b0110)
    #expect(PKRU.none.keysWithLess(than: some) == 0)
    #expect(PKRU(rawValue: 0b11_01_00_00).keysWithLess(than: some) == 0b1000)
    #expect(PKRU(rawValue: 1 << 31).keysWithLess(than: .none) == 1 << 15)
  }

  @Test func keyedEntries() {
    var entries = KeyedEntries()
    let places = (UInt16(0)..<4).map { KeyedEntries.Place(table: 1, index: $0) }
    entries.note(places[0], key: 1, isGlobal: false)
    entries.note(places[1], key: 2, isGlobal: false)
    entries.note(places[2], key: 1, isGlobal: false)
    #expect(entries.take(0b10)?.map(\.index) == [0, 2])
    #expect(entries.take(0b10)?.isEmpty == true)
    // Anything may have key 0.
    #expect(entries.take(0b101) == nil)
    entries.removeAll(keepsGlobal: true)
    #expect(entries.take(0b100)?.isEmpty == true)
    entries.note(places[3], key: 15, isGlobal: true)
    entries.removeAll(keepsGlobal: true)
    #expect(entries.take(1 << 15)?.map(\.index) == [3])
    for _ in 0..<5000 { entries.note(places[0], key: 3, isGlobal: false) }
    #expect(entries.take(0b1000) == nil)
    entries.removeAll(keepsGlobal: false)
    #expect(entries.take(0b1000)?.isEmpty == true)
  }

  @Test func largePages() throws {
    try memory.write(UInt64(0x20_0087), at: GuestPhysicalAddress(0x3000))
    #expect(try mmu.translate(0x5678, .read, isUser: false, overridesSMAP: false) == 0x20_5678)
    try memory.write(UInt64(0x20_2087), at: GuestPhysicalAddress(0x3000))
    #expect(code(.read) == 9)
  }

  @Test func unpagedAddressesAreCutTo32Bits() throws {
    mmu.registers.cr0 = .protectedMode
    #expect(try mmu.translate(0x1_0000_1234, .read, isUser: false, overridesSMAP: false) == 0x1234)
  }
}
