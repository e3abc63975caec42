import TrivisorBoot
import Testing
import TrivisorVMM

@Suite("Flat images")
struct FlatLoaderTests {
  private func bootSector() -> [UInt8] {
    var image = ImageBuilder(bytes: [0xf4])
    image.put([0x55, 0xaa], at: 510)
    return image.bytes
  }

  @Test("a boot sector is recognised and begins at 0:7c00 in real mode with DL 0x80")
  func bootSectorState() throws {
    let memory = try GuestMemory(size: 2 << 20)
    let guest = try load(bootSector(), into: memory)
    #expect(guest.kind == .flat16)
    #expect(guest.system.cs == .real(0, code: true))
    #expect(guest.general.rip == 0x7c00)
    #expect(guest.general.rdx == 0x80)
    #expect(guest.system.cr0 & 1 == 0)
    #expect(guest.system.idt == DescriptorTable(base: 0, limit: 0x3ff))
    #expect(try memory.bytes(0x7c00, 512) == bootSector())
  }

  @Test("firmware goes where a PC has its ROM, and its entry point gets a segment of its own")
  func firmware() throws {
    let memory = try GuestMemory(size: 2 << 20)
    let guest = try load([UInt8](repeating: 0x90, count: 0x10000), kind: .flat16, into: memory) {
      $0.loadAddress = 0xf0000
      $0.entry = 0xffff0
    }
    #expect(guest.system.cs == .real(0xf000, code: true))
    #expect(guest.general.rip == 0xfff0)
  }

  @Test("the BIOS data area tells where conventional memory ends", arguments: [ImageKind.flat16, .flat32, .flat64])
  func biosDataArea(kind: ImageKind) throws {
    let memory = try GuestMemory(size: 2 << 20)
    _ = try load([0xf4], kind: kind, into: memory)
    let extendedArea: UInt16 = try memory.read(at: GuestPhysicalAddress(0x40e))
    #expect(UInt64(extendedArea) << 4 == MemoryMap.conventionalEnd)
    let kibibytes: UInt16 = try memory.read(at: GuestPhysicalAddress(0x413))
    #expect(UInt64(kibibytes) << 10 <= MemoryMap.conventionalEnd)
    #expect(try memory.bytes(MemoryMap.conventionalEnd, 1) == [1])
  }

  @Test("an image may have the BIOS data area's place, and memory may end before the extended one")
  func imageInsteadOfBIOSDataArea() throws {
    let image = (1...255).map { UInt8($0) }
    let memory = try GuestMemory(size: 2 << 20)
    _ = try load(image, kind: .flat16, into: memory) { $0.loadAddress = 0x400 }
    #expect(try memory.bytes(0x400, image.count) == image)
    _ = try load(image, kind: .flat16, into: try GuestMemory(size: 1 << 16))
  }

  @Test("32-bit: 1 MiB, protected mode, no paging, a stack")
  func protectedMode() throws {
    let memory = try GuestMemory(size: 2 << 20)
    let guest = try load([0xf4], kind: .flat32, into: memory)
    #expect(guest.general.rip == 0x10_0000)
    #expect(guest.system.cr0 == 0x11)
    #expect(guest.system.cs.attributes == 0xc09b)
    #expect(guest.system.ss.attributes == 0xc093)
    #expect(memory.host(GuestPhysicalAddress(guest.general.rsp - 8), count: 8) != nil)
    #expect(guest.general.rflags == 2)
  }

  @Test("64-bit: page tables map the low 4 GiB to themselves, the descriptor table fits the selectors")
  func longMode() throws {
    let memory = try GuestMemory(size: 2 << 20)
    let guest = try load([0xf4], kind: .flat64, into: memory) { $0.loadAddress = 0x12_3000 }
    #expect(guest.general.rip == 0x12_3000)
    #expect(guest.system.efer == 0x500)
    #expect(guest.system.cr0 == 0x8000_0011)
    #expect(guest.system.cr4 == 0x20)
    for address: UInt64 in [0, 0x12_3456, 0x7fff_ffff, 0xfee0_0000, 0xffff_ffff] {
      #expect(try translate(address, guest.system.cr3, memory) == address)
    }
    #expect(guest.system.gdt.limit == 31)
    let code: UInt64 = try memory.read(
      at: GuestPhysicalAddress(guest.system.gdt.base + UInt64(guest.system.cs.selector)))
    #expect(code == 0x00af_9b00_0000_ffff)
  }

  @Test("our structures lie where the image does not", arguments: [UInt64(0x1000), 0x9_0000, 0x9_8000, 0x9_e000])
  func structuresAvoidTheImage(address: UInt64) throws {
    let memory = try GuestMemory(size: 2 << 20)
    let image = (0..<6000).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) }
    let guest = try load(image, kind: .flat64, into: memory) { $0.loadAddress = address }
    #expect(try memory.bytes(address, image.count) == image)
    #expect(try translate(address, guest.system.cr3, memory) == address)
  }

  @Test("an image that fills conventional memory sends our structures above it")
  func conventionalMemoryFull() throws {
    let memory = try GuestMemory(size: 4 << 20)
    let image = [UInt8](repeating: 0x5a, count: 0x9fc00 - 0x1000)
    let guest = try load(image, kind: .flat64, into: memory) { $0.loadAddress = 0x1000 }
    #expect(guest.system.cr3 >= 0x10_0000)
    #expect(try memory.bytes(0x1000, image.count) == image)
  }

  @Test("what does not fit is refused with its reason")
  func refusals() throws {
    #expect(
      try failure([1, 2, 3], kind: .flat32) { $0.loadAddress = .max - 1 }?.reason
        == .wraps(part: "the image", base: .max - 1, size: 3))
    #expect(
      try failure([1, 2, 3], kind: .flat32) { $0.loadAddress = 0xc000_0000 }?.reason
        == .outsideMemory(part: "the image", base: 0xc000_0000, size: 3))
    #expect(
      try failure([1, 2], kind: .flat64) { $0.entry = 0x10_0002 }?.reason == .entryOutsideImage(entry: 0x10_0002))
    #expect(try failure([1, 2], kind: .flat64) { $0.entry = 0xf_ffff }?.reason == .entryOutsideImage(entry: 0xf_ffff))
    #expect(try failure([1], kind: .flat16) { $0.loadAddress = 0x10_0000 }?.description.contains("real mode") == true)
    #expect(
      try failure([1], kind: .flat64, memory: 5 << 30) { $0.loadAddress = 0x1_2000_0000 }?.description
        .contains("above the 4 GiB") == true)
    #expect(
      try failure([UInt8](repeating: 0, count: 2 << 20), kind: .flat32, memory: 2 << 20)?.reason
        == .outsideMemory(part: "the image", base: 0x10_0000, size: 2 << 20))
    #expect(try failure([1], kind: .flat32) { $0.commandLine = "x" }?.description.contains("command line") == true)
    #expect(try failure([1], kind: .elf) { $0.entry = 1 }?.description.contains("the entry point") == true)
  }

  /// Walks four levels of page tables.
  private func translate(_ address: UInt64, _ root: UInt64, _ memory: GuestMemory) throws -> UInt64 {
    var table = root
    for shift in [39, 30, 21] as [UInt64] {
      let entry: UInt64 = try memory.read(at: GuestPhysicalAddress(table + (address >> shift & 511) * 8))
      #expect(entry & 3 == 3)
      if entry & 0x80 != 0 { return entry & ~0xfff | address & ((1 << shift) - 1) }
      table = entry & ~0xfff
    }
    return .max
  }
}
