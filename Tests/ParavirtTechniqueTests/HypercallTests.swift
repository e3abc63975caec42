import TrivisorBoot
import TrivisorDevices
import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// Hypercalls one by one, of both widths: what Xen's sources say that they do and what they refuse.
struct HypercallTests {
  private static let widths = [true, false]

  @Test(
    "console_io is seen until the ring is used, what both say is seen once, and input comes by it", arguments: widths)
  func console(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let text = harness.address(0)
    for (position, byte) in "one\ntwo\n".utf8.enumerated() { try harness.store(byte, text + UInt64(position)) }
    #expect(harness.call(18, 0, 8, text) == 0)
    #expect(String(decoding: harness.sink.bytes, as: UTF8.self) == "one\ntwo\n")
    // The ring repeats the last line, as a kernel does that writes to both.
    let info = harness.start.startInfo
    let page = is64Bit ? try harness.load(UInt64.self, info + 72) : UInt64(try harness.load(UInt32.self, info + 52))
    let ring = try #require(harness.domain.memory.frames.bytes(page))
    for (position, byte) in "two\nthree\n".utf8.enumerated() {
      ring.storeBytes(of: byte, toByteOffset: 1024 + position, as: UInt8.self)
    }
    ring.storeBytes(of: 10, toByteOffset: 3084, as: UInt32.self)
    try harness.store(XenMachine.consolePort, text + 64)
    #expect(harness.call(32, 4, text + 64) == 0)
    #expect(harness.call(18, 0, 8, text) == 0)
    #expect(String(decoding: harness.sink.bytes, as: UTF8.self) == "one\ntwo\nthree\n")
    _ = Array("typed".utf8).withUnsafeBytes { harness.domain.console.receive($0) }
    #expect(harness.call(18, 1, 100, text) == 5)
    #expect(try harness.load(UInt8.self, text + 4) == UInt8(ascii: "d"))
    #expect(harness.call(18, 1, 100, text) == 0)
    #expect(harness.call(18, 2, 0, text) == -38)
    #expect(harness.call(18, 0, 8, 0x1000) == -14)
  }

  @Test("callbacks: which there are, and which can be taken back", arguments: widths)
  func callbacks(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let place = harness.address(0)
    try harness.storeWord(0x1234, place + 8)
    for type in 0..<9 as Range<UInt16> {
      try harness.store(type, place)
      let exists = [0, 1, 4, 5, 7].contains(type) || type == 2 && is64Bit
      #expect(harness.call(30, 0, place) == (exists ? 0 : -38))
      #expect(harness.call(30, 1, place) == (!exists ? -38 : type == 4 ? 0 : -22))
    }
    #expect(harness.processor.systemCall32Callback.address == 0x1234)
    #expect(harness.processor.traps[2].address == 0)
    #expect(harness.call(30, 2, place) == (is64Bit ? -38 : -22))
    try harness.storeWord(0x4321, place)
    #expect(harness.call(28, 0, place) == 0)
    #expect(harness.processor.traps[2].address == 0x4321)
    #expect(harness.call(28, 1, place) == 0)
    #expect(harness.call(28, 2, place) == -38)
  }

  @Test("an NMI comes once, to its handler, and the next one after iret")
  func interrupts() throws {
    let harness = try DomainHarness(is64Bit: true)
    let processor = harness.processor
    processor.registers.rsp = harness.address(8)
    try processor.setInterruptHandler(0x7000)
    #expect(harness.call(24, 11, 0, 1) == -22)
    #expect(harness.call(24, 11, 0, 0) == 0)
    processor.delivery.deliverInterrupt()
    #expect(processor.registers.rip == 0x7000)
    #expect(harness.call(24, 11, 0, 0) == 0)
    processor.registers.rip = 0x8000
    processor.delivery.deliverInterrupt()
    #expect(processor.registers.rip == 0x8000)
    // RAX and what comes back in its place lie below what was pushed.
    processor.registers.rsp -= 16
    TrapReturn(processor: processor).perform()
    processor.delivery.deliverInterrupt()
    #expect(processor.registers.rip == 0x7000)
  }

  @Test("a multicall ends with iret, whose register is its result", arguments: widths)
  func multicall(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let (list, stack) = (harness.address(0), harness.address(1))
    if is64Bit { harness.processor.userRoot = harness.processor.kernelRoot }
    let frame: [UInt64] =
      is64Bit
      ? [0xdead, 0, 0, 0, 0x5000, 0xe033, 0x202, 0x6000, 0xe02b] : [0xdead, 0x5000, 0xe02b, 0x202, 0x6000, 0xe033]
    for (position, value) in frame.enumerated() {
      try harness.storeWord(value, stack + harness.word * UInt64(position))
    }
    try harness.storeWord(23, list)
    try harness.storeWord(17, list + 8 * harness.word)
    harness.processor.registers.rsp = stack
    #expect(harness.call(13, list, 2) == 0xdead)
    #expect(harness.processor.registers.rip == 0x5000)
    #expect(harness.processor.mode == .user)
    #expect(try harness.load(UInt32.self, list + 9 * harness.word) == 0)
    harness.processor.mode = .kernel
    try harness.storeWord(13, list)
    #expect(harness.call(13, list, 1) == 0)
    #expect(try harness.load(Int32.self, list + harness.word) == -22)
  }

  @Test("calls of those who manage machines are refused in Xen's order", arguments: widths)
  func control(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let place = harness.address(0)
    for (number, version) in [(7, 0x0300_0000), (35, 0x15), (36, 0x15)] as [(UInt64, UInt32)] {
      #expect(harness.call(number, 0x1000) == -14)
      try harness.store(version &+ 1, place + 4)
      #expect(harness.call(number, place) == -13)
      try harness.store(version, place + 4)
      #expect(harness.call(number, place) == -1)
    }
    #expect(harness.call(37, 0, place) == -1)
    #expect(harness.call(40, 0, place) == -95)
    #expect(harness.call(48, place) == -1)
    for number in [27, 31, 38, 39, 42, 43, 47, 49, 63, 1000] as [UInt64] { #expect(harness.call(number) == -38) }
  }

  @Test("physdev_op of a domain without devices", arguments: widths)
  func devices(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let (place, bitmap) = (harness.address(0), harness.address(1))
    try harness.storeWord(bitmap, place)
    try harness.store(UInt32(65537), place + harness.word)
    #expect(harness.call(33, 7, place) == -22)
    try harness.store(UInt32(65536), place + harness.word)
    #expect(harness.call(33, 7, place) == 0)
    try harness.store(UInt32(5000), place)
    #expect(harness.call(33, 5, place) == -22)
    #expect(harness.call(33, 12, place) == -22)
    try harness.store(UInt16(0x7ff0), place)
    #expect(harness.call(33, 13, place) == -1)
    try harness.store(UInt16(77), place)
    #expect(harness.call(33, 13, place) == -3)
    try harness.storeWord(harness.frame(5), place)
    #expect(harness.call(33, 28, place) == 0)
    #expect(harness.call(33, 17, place) == -16)
    #expect(harness.call(33, 15, place) == -1)
    #expect(harness.call(33, 99, place) == -38)
    // The old form of the call has the command in front.
    try harness.store(UInt32(6), place)
    try harness.store(UInt32(3), place + harness.word)
    #expect(harness.call(19, place) == 0)
    #expect(harness.processor.ioPrivilege == 3)
  }

  @Test("update_va_mapping: whose pages, and what is no address", arguments: widths)
  func mappings(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    func other(_ owner: UInt64) -> Int64 {
      let (page, entry) = (harness.address(3), harness.frame(3) << 12 | 0x63)
      return is64Bit
        ? harness.call(22, page, entry, 0, owner) : harness.call(22, page, entry & 0xffff_ffff, entry >> 32, 0, owner)
    }
    #expect(other(0x7ff0) == 0)
    #expect(other(0) == -1)
    #expect(other(0x7ff1) == -1)
    #expect(other(1) == -3)
    #expect(other(77) == -3)
    if is64Bit {
      #expect(harness.map(1 << 63, 0) == -22)
      #expect(try harness.load(UInt8.self, harness.address(3)) == 0)
    } else {
      #expect(harness.map(0xf580_0000, 0) == -22)
    }
  }

  @Test("XENMEM_exchange and extents of several pages", arguments: widths)
  func exchange(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let (place, lists) = (harness.address(0), harness.address(1))
    let size: UInt64 = is64Bit ? 32 : 20
    func reservation(_ address: UInt64, _ list: UInt64, _ count: UInt64, _ order: UInt32) throws {
      try harness.storeWord(list, address)
      try harness.storeWord(count, address + harness.word)
      try harness.store(order, address + 2 * harness.word)
      try harness.store(UInt16(0x7ff0), address + 2 * harness.word + 8)
    }
    // Four pages that nothing maps, from a multiple of four on, given one by one for one extent of four.
    for page in 16..<20 as Range<UInt64> {
      #expect(harness.map(harness.address(page), 0) == 0)
      try harness.storeWord(harness.frame(page), lists + harness.word * (page - 16))
    }
    try harness.storeWord(0x300, lists + 256)
    try reservation(place, lists, 4, 0)
    try reservation(place + size, lists + 256, 1, 2)
    try harness.storeWord(0, place + 2 * size)
    #expect(harness.call(12, 11, place) == 0)
    #expect(try harness.load(UInt32.self, place + 2 * size) == 4)
    #expect(UInt64(try harness.load(UInt32.self, lists + 256)) == harness.frame(16))
    #expect(harness.domain.memory.machineTable[harness.frame(19)] == 0x303)
    try harness.storeWord(5, place + 2 * size)
    #expect(harness.call(12, 11, place) == -22)
    try harness.storeWord(0, place + 2 * size)
    try reservation(place + size, lists + 256, 1, 10)
    #expect(harness.call(12, 11, place) == -1)
    // A page that is mapped can't go.
    try reservation(place, lists + 512, 1, 0)
    try reservation(place + size, lists + 256, 1, 0)
    try harness.storeWord(harness.frame(30), lists + 512)
    #expect(harness.call(12, 11, place) == -16)
    // The extent of four goes at once, and comes back.
    try reservation(place, lists + 256, 1, 2)
    try harness.storeWord(harness.frame(16), lists + 256)
    let before = harness.call(12, 3, place + 2 * harness.word + 8)
    #expect(harness.call(12, 1, place) == 1)
    #expect(harness.call(12, 3, place + 2 * harness.word + 8) == before - 4)
    try harness.storeWord(0x10, lists + 256)
    #expect(harness.call(12, 6, place) == 1)
    #expect(UInt64(try harness.load(UInt32.self, lists + 256)) == harness.frame(16))
  }

  @Test("grants: device and host mappings, replacement, both versions", arguments: widths)
  func grants(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let place = harness.address(0)
    func entry(_ reference: UInt32) throws -> UnsafeMutableRawPointer {
      try #require(harness.domain.grants.entry(reference))
    }
    try entry(8).storeBytes(of: harness.frame(20) << 32 | 1 << 16 | 1, as: UInt64.self)
    func map(_ address: UInt64, _ flags: UInt32, _ reference: UInt32) throws -> (status: Int16, handle: UInt32) {
      try harness.store(address, place)
      try harness.store(flags, place + 8)
      try harness.store(reference, place + 12)
      try harness.store(UInt16(1), place + 16)
      #expect(harness.call(20, 0, place, 1) == 0)
      return (try harness.load(Int16.self, place + 18), try harness.load(UInt32.self, place + 20))
    }
    func unmap(_ command: UInt64, _ address: UInt64, _ second: UInt64, _ handle: UInt32) throws -> Int16 {
      try harness.store(address, place)
      try harness.store(second, place + 8)
      try harness.store(handle, place + 16)
      #expect(harness.call(20, command, place, 1) == 0)
      return try harness.load(Int16.self, place + 20)
    }
    let window = harness.address(40)
    #expect(harness.map(window, 0) == 0)
    let both = try map(window, 3, 8)
    #expect(both.status == 0)
    #expect(try unmap(1, 0, harness.frame(21) << 12, both.handle) == -6)
    #expect(try unmap(1, window, 0, both.handle) == 0)
    #expect(try entry(8).load(as: UInt16.self) == 0x19)
    #expect(try unmap(1, 0, harness.frame(20) << 12, both.handle) == 0)
    #expect(try entry(8).load(as: UInt16.self) == 1)
    #expect(try unmap(1, window, 0, both.handle) == -4)
    // The entry of another address moves to where the grant was.
    let read = try map(window, 6, 8)
    #expect(try unmap(7, window, harness.address(41), read.handle) == 0)
    #expect(
      harness.domain.memory.tables.leaf(harness.address(41), root: harness.processor.kernelRoot)?.isPresent == false)
    #expect(
      harness.domain.memory.tables.leaf(window, root: harness.processor.kernelRoot).map { PageTables.frame($0.entry) }
        == harness.frame(41))
    // Domain 0 grants nothing.
    try harness.store(UInt16(0), place + 16)
    // Version 2, with its status elsewhere.
    try harness.store(UInt32(2), place)
    #expect(harness.call(20, 8, place, 1) == 0)
    try entry(8).storeBytes(of: 1 << 16 | 1, as: UInt32.self)
    try entry(8).storeBytes(of: harness.frame(20), toByteOffset: 8, as: UInt64.self)
    #expect(harness.map(window, 0) == 0)
    let second = try map(window, 2, 8)
    #expect(second.status == 0)
    #expect(try entry(8).load(as: UInt16.self) == 1)
    let status = try #require(harness.domain.memory.frames.bytes(harness.domain.grants.statusFrame(0)))
    #expect(status.load(fromByteOffset: 16, as: UInt16.self) == 0x18)
    try harness.store(UInt32(1), place)
    #expect(harness.call(20, 8, place, 1) == -16)
    #expect(try harness.load(UInt32.self, place) == 2)
    #expect(try unmap(1, window, 0, second.handle) == 0)
    // A frame of statuses that is mapped can't be taken away.
    #expect(harness.map(window, harness.domain.grants.statusFrame(0) << 12 | 0x21) == 0)
    try harness.store(UInt32(1), place)
    #expect(harness.call(20, 8, place, 1) == -16)
    #expect(harness.map(window, 0) == 0)
    try harness.store(UInt32(1), place)
    #expect(harness.call(20, 8, place, 1) == 0)
    #expect(harness.map(window, harness.domain.grants.statusFrame(0) << 12 | 0x21) == -16)
  }

  @Test("the machine-to-physical table of 32 bits is memory that says the same")
  func machineTable() throws {
    let harness = try DomainHarness(is64Bit: false)
    let table = XenMachine.tableFrames(harness.memory)
    func entry(_ frame: UInt64) throws -> UInt32 {
      let page = try #require(harness.domain.memory.frames.bytes(table.lowerBound + frame * 4 / 4096))
      return page.load(fromByteOffset: Int(frame * 4 % 4096), as: UInt32.self)
    }
    #expect(try entry(0) == .max)
    #expect(try entry(harness.frame(7)) == 7)
    #expect(try entry(XenMachine.sharedInfoFrame(harness.memory)) == .max)
    try harness.store(harness.frame(7) << 12 | 1, harness.address(0))
    try harness.store(UInt64(0x77), harness.address(0) + 8)
    #expect(harness.call(1, harness.address(0), 1, 0, 0x7ff0) == 0)
    #expect(try entry(harness.frame(7)) == 0x77)
    // It is not the domain's to map.
    #expect(harness.map(harness.address(40), table.lowerBound << 12 | 0x21) == -16)
  }

  @Test("linear page tables: a table sees itself and others of its level, read-only, and no circle lives")
  func linearTables() throws {
    let harness = try DomainHarness(is64Bit: true)
    let (place, root) = (harness.address(0), harness.start.rootFrame)
    func update(_ table: UInt64, _ position: UInt64, _ entry: UInt64) throws -> Int64 {
      try harness.store(table << 12 | position << 3, place)
      try harness.store(entry, place + 8)
      return harness.call(1, place, 1, 0, 0x7ff0)
    }
    func pin(_ command: UInt32, _ frame: UInt64) throws -> Int64 {
      try harness.store(command, place)
      try harness.store(frame, place + 8)
      return harness.call(26, place, 1, 0, 0x7ff0)
    }
    #expect(try update(root, 300, root << 12 | 0x67) == -22)
    #expect(try update(root, 300, root << 12 | 0x65) == 0)
    // Through it the root's own page is seen, and can't be written.
    let window: UInt64 = 0xffff_0000_0000_0000 | 300 << 39 | 300 << 30 | 300 << 21 | 300 << 12
    #expect(try harness.load(UInt64.self, window + 300 * 8) & ~0xfff == root << 12)
    #expect(throws: XenError.self) { try harness.store(UInt64(0), window) }
    #expect(harness.map(window, 0) == -22)
    // Another root, which sees the first; the first must not see it.
    for page in 50..<52 as Range<UInt64> { #expect(harness.map(harness.address(page), 0) == 0) }
    #expect(try pin(3, harness.frame(50)) == 0)
    #expect(try update(harness.frame(50), 300, root << 12 | 0x65) == 0)
    #expect(try update(root, 301, harness.frame(50) << 12 | 0x65) == -22)
    #expect(try update(harness.frame(50), 300, 0) == 0)
    #expect(try update(root, 301, harness.frame(50) << 12 | 0x65) == 0)
    #expect(try pin(4, harness.frame(50)) == 0)
    #expect(harness.domain.memory.tables.use(harness.frame(50)) == .table4)
    #expect(try update(root, 301, 0) == 0)
    #expect(harness.domain.memory.tables.use(harness.frame(50)) == .none)
    // Of 32 bits the root can't be seen so.
    let narrow = try DomainHarness(is64Bit: false)
    try narrow.store(narrow.start.rootFrame << 12 | 2 << 3, place)
    try narrow.store(narrow.start.rootFrame << 12 | 0x25, place + 8)
    #expect(narrow.call(1, place, 1, 0, 0x7ff0) == -22)
  }

  @Test("model-specific registers and CR4 as Xen shows them", arguments: widths)
  func registers(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let processor = harness.processor
    processor.registers.rip = harness.address(2)
    func execute(_ code: [UInt8]) throws -> Bool {
      let start = harness.address(2)
      processor.registers.rip = start
      for (position, byte) in code.enumerated() { try harness.store(byte, start + UInt64(position)) }
      InstructionEmulation(processor: processor).generalProtection(0)
      return processor.registers.rip == start + UInt64(code.count)
    }
    processor.traps[13] = .init(flags: 0, codeSelector: 0, address: 0x7777)
    processor.registers.rsp = harness.address(8)
    func read(_ number: UInt64) throws -> UInt64? {
      processor.registers.rcx = number
      guard try execute([0x0f, 0x32]) else { return nil }
      return processor.registers.rax | processor.registers.rdx << 32
    }
    #expect(try read(0x1b) == 0xfee0_0900)
    #expect(try read(0x277) == 0x0000_0501_0007_0406)
    #expect(try read(0xce) == 0)
    #expect(try read(0x4000_0000) == 0)
    #expect(try read(0x179) == 2)
    #expect(try read(0xc000_0080).map { $0 & 0x500 } == (is64Bit ? 0x500 : 0))
    #expect(try read(0xc000_0100) == (is64Bit ? 0 : nil))
    #expect(try read(0x1234_5678) == nil)
    // A page of hypercalls is written where it is asked for.
    processor.registers.rcx = 0x4000_0000
    (processor.registers.rax, processor.registers.rdx) = (harness.frame(5) << 12 & 0xffff_ffff, 0)
    #expect(try execute([0x0f, 0x30]))
    #expect(try harness.load(UInt8.self, harness.address(5)) == (is64Bit ? 0x51 : 0xb8))
    (processor.registers.rax, processor.registers.rdx) = (harness.start.rootFrame << 12, 0)
    processor.registers.rcx = 0x4000_0000
    #expect(try !execute([0x0f, 0x30]))
    // Of CR4 what it asks for in vain is simply not there.
    processor.registers.rax = UInt64.max >> (is64Bit ? 0 : 32)
    #expect(try execute([0x0f, 0x22, 0xe0]))
    #expect(try execute([0x0f, 0x20, 0xe0]))
    #expect(processor.registers.rax & ~0x5_000c == 0x620)
    processor.registers.rax = 0
    #expect(try execute([0x0f, 0x22, 0xe0]))
    #expect(try execute([0x0f, 0x20, 0xe0]))
    #expect(processor.registers.rax == 0x620)
  }

  @Test("32-bit code loads Xen's selectors in every way")
  func selectors32() throws {
    let harness = try DomainHarness(is64Bit: false)
    let processor = harness.processor
    func execute(_ code: [UInt8]) throws -> UInt64 {
      let start = harness.address(2)
      processor.registers.rip = start
      for (position, byte) in code.enumerated() { try harness.store(byte, start + UInt64(position)) }
      InstructionEmulation(processor: processor).generalProtection(0xe020)
      return processor.registers.rip &- start
    }
    let data = harness.address(3)
    try harness.store(UInt32(0x1111), data)
    try harness.store(UInt16(0xe021), data + 4)
    let address = withUnsafeBytes(of: UInt32(data).littleEndian) { Array($0) }
    // LSS ESP, LDS EBX, LES EDX, LFS ESI, LGS EDI; MOV DS.
    #expect(try execute([0x0f, 0xb2, 0x25] + address) == 7)
    #expect(processor.registers.rsp == 0x1111)
    #expect(try execute([0xc5, 0x1d] + address) == 6)
    #expect(processor.registers.rbx == 0x1111)
    #expect(try execute([0xc4, 0x15] + address) == 6)
    #expect(try execute([0x0f, 0xb4, 0x35] + address) == 7)
    #expect(try execute([0x0f, 0xb5, 0x3d] + address) == 7)
    processor.registers.rax = data
    #expect(try execute([0x8e, 0x58, 0x04]) == 3)
    processor.registers.rsp = data + 4
    #expect(try execute([0x1f]) == 1)
    #expect(processor.registers.rsp == data + 8)
    // IRET to the kernel's own level, and out of it.
    let stack = harness.address(4)
    for (position, value) in [0x5000, 0xe019, 0x246, 0x6000, 0xe033].enumerated() {
      try harness.store(UInt32(value), stack + 4 * UInt64(position))
    }
    processor.registers.rsp = stack
    _ = try execute([0xcf])
    #expect(processor.registers.rip == 0x5000)
    #expect(processor.registers.rsp == stack + 12)
    #expect(processor.mode == .kernel)
    try harness.store(UInt32(0xe02b), stack + 4)
    processor.registers.rsp = stack
    _ = try execute([0xcf])
    #expect(processor.mode == .user)
    #expect(processor.registers.rsp == 0x6000)
  }

  @Test("a processor begins with the I/O privilege that its first flags name", arguments: [true, false])
  func firstPrivilege(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let (context, root) = (harness.address(20), harness.start.rootFrame)
    if is64Bit {
      try harness.store(UInt64(4), context + 512)
      try harness.store(UInt64(0x1000), context + 520 + 144)
      try harness.store(root << 12, context + 4984 + 24)
    } else {
      try harness.store(UInt32(0x1000), context + 516 + 40)
      try harness.store(UInt32(0xe019), context + 516 + 36)
      try harness.store(UInt32(truncatingIfNeeded: root << 12), context + 2728)
    }
    #expect(harness.call(24, 0, 1, context) == 0)
    #expect(harness.domain.processors[1].ioPrivilege == 1)
    #expect(harness.domain.processors[1].start.map { $0.rflags & 0x3000 } == 0)
  }
}
