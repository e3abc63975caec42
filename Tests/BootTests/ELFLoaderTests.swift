import TrivisorBoot
import Testing
import TrivisorVMM

@Suite("ELF images by entry point")
struct ELFLoaderTests {
  private let code = (0..<40).map { UInt8($0) }

  @Test("a 64-bit executable begins in long mode, its BSS cleared")
  func elf64() throws {
    let memory = try GuestMemory(size: 4 << 20)
    try memory.copy([UInt8](repeating: 0xff, count: 0x3000), to: GuestPhysicalAddress(0x20_0000))
    let guest = try load(
      ImageBuilder.elf64(entry: 0x20_0010, [.init(physical: 0x20_0000, contents: code, memorySize: 0x3000)]),
      into: memory)
    #expect(guest.kind == .elf)
    #expect(guest.general.rip == 0x20_0010)
    #expect(guest.system.efer == 0x500)
    #expect(try memory.bytes(0x20_0000, 0x3000) == code + [UInt8](repeating: 0, count: 0x3000 - code.count))
  }

  @Test("a 32-bit executable begins in protected mode")
  func elf32() throws {
    let memory = try GuestMemory(size: 4 << 20)
    let guest = try load(
      ImageBuilder.elf32(entry: 0x10_0004, [.init(physical: 0x10_0000, contents: code)]), into: memory)
    #expect(guest.general.rip == 0x10_0004)
    #expect(guest.system.cr0 == 0x11)
    #expect(guest.system.efer == 0)
    #expect(try memory.bytes(0x10_0000, code.count) == code)
  }

  @Test("an entry point at a high virtual address becomes the physical one")
  func virtualEntry() throws {
    let memory = try GuestMemory(size: 4 << 20)
    let guest = try load(
      ImageBuilder.elf64(
        entry: 0xffff_ffff_8010_0008, [.init(physical: 0x10_0000, virtual: 0xffff_ffff_8010_0000, contents: code)]),
      into: memory)
    #expect(guest.general.rip == 0x10_0008)
  }

  @Test("a physical entry point of a kernel with virtual addresses is taken as it is")
  func physicalEntry() throws {
    let memory = try GuestMemory(size: 4 << 20)
    let guest = try load(
      ImageBuilder.elf64(
        entry: 0x10_0008, [.init(physical: 0x10_0000, virtual: 0xffff_ffff_8010_0000, contents: code)]), into: memory)
    #expect(guest.general.rip == 0x10_0008)
  }

  @Test("segments that contradict each other or the memory are refused, each with its number")
  func segments() throws {
    func reason(_ segments: [ImageBuilder.Segment], entry: UInt64 = 0x10_0000) throws -> BootFailure.Reason? {
      try failure(ImageBuilder.elf64(entry: entry, segments))?.reason
    }
    #expect(
      try reason([.init(physical: 0x10_0000, contents: code), .init(physical: 0x10_0027, contents: code)])
        == .overlap(part: "segment 1", base: 0x10_0027, size: 40, other: "segment 0"))
    #expect(
      try reason([.init(physical: .max - 10, contents: code)]) == .wraps(part: "segment 0", base: .max - 10, size: 40))
    #expect(
      try reason([.init(physical: 0x10_0000, contents: code, memorySize: .max)])
        == .wraps(part: "segment 0", base: 0x10_0000, size: .max))
    #expect(
      try reason([.init(physical: (16 << 20) - 8, contents: code)])
        == .outsideMemory(part: "segment 0", base: (16 << 20) - 8, size: 40))
    #expect(
      try reason([.init(physical: 0x9fbf0, contents: code)])
        == .outsideMemory(part: "segment 0", base: 0x9fbf0, size: 40))
    #expect(
      try reason([.init(physical: 0x10_0000, contents: code, memorySize: 39)])
        == .malformed(part: "segment 0", problem: "has 40 bytes in the file and only 39 in memory"))
    #expect(
      try reason([.init(physical: 0x10_0000, contents: code)], entry: 0x20_0000) == .entryOutsideImage(entry: 0x20_0000)
    )
    #expect(
      try reason([.init(physical: 0x10_0000, contents: code, type: 4)])
        == .malformed(part: "the program header table", problem: "names nothing to load (no PT_LOAD)"))
  }

  @Test("a table or segment that reaches past the end says where")
  func truncated() throws {
    let image = ImageBuilder.elf64(entry: 0x10_0000, [.init(physical: 0x10_0000, contents: code)])
    #expect(
      try failure(Array(image.dropLast()))?.reason
        == .truncated(part: "segment 0", offset: 0x200, size: 40, imageSize: 0x227))
    #expect(
      try failure(Array(image.prefix(100)))?.reason
        == .truncated(part: "the program header table", offset: 64, size: 56, imageSize: 100))
    #expect(try failure(Array(image.prefix(30)))?.description.contains("the ELF header") == true)
  }

  @Test(
    "executables for other machines, and files that are no executables, are named",
    arguments: [
      (16, UInt16(1), "object file"), (16, 3, "position-independent"), (16, 4, "core dump"), (16, 9, "type 9"),
      (18, 183, "AArch64"), (18, 3, "machine 3"), (18, 4711, "machine 4711"), (54, 55, "55 bytes a program header"),
      (56, 0, "no segments"), (56, 0xffff, "65535 program headers"), (20, 2, "version"),
    ])
  func wrongFiles(offset: Int, value: UInt16, message: String) throws {
    var image = ImageBuilder(
      bytes: ImageBuilder.elf64(entry: 0x10_0000, [.init(physical: 0x10_0000, contents: code)]))
    image.put(value, at: offset)
    #expect(try failure(image.bytes)?.description.contains(message) == true)
  }

  @Test(
    "big-endian, classless and x32 files are named",
    arguments: [(5, UInt8(2), "big-endian"), (4, 3, "class"), (4, 1, "x32")])
  func wrongIdentity(offset: Int, value: UInt8, message: String) throws {
    var image = ImageBuilder(
      bytes: ImageBuilder.elf64(entry: 0x10_0000, [.init(physical: 0x10_0000, contents: code)]))
    image.put(value, at: offset)
    #expect(try failure(image.bytes)?.description.contains(message) == true)
  }
}
