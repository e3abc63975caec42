import TrivisorBoot
import Testing
import TrivisorVMM

@Suite("Multiboot 1")
struct MultibootLoaderTests {
  @Test("a kernel whose own table begins with code and data may go on by the selectors that it begins with")
  func selectors() throws {
    let guest = try load(ImageBuilder.multiboot(load: 0x10_0000), into: try GuestMemory(size: 4 << 20))
    #expect(guest.system.cs.selector == 0x08 && guest.system.ss.selector == 0x10 && guest.system.ds.selector == 0x10)
  }

  @Test("a kernel loaded by its header's addresses gets the registers and the information of the specification")
  func addresses() throws {
    let memory = try GuestMemory(size: 64 << 20)
    try memory.copy([UInt8](repeating: 0xff, count: 0x1000), to: GuestPhysicalAddress(0x20_0000))
    let image = ImageBuilder.multiboot(load: 0x20_0000, entry: 0x20_0100, bssEnd: 0x20_1000)
    let guest = try load(image, into: memory) { $0.commandLine = "hello world" }
    #expect(guest.kind == .multiboot)
    #expect(guest.general.rax == 0x2bad_b002)
    #expect(guest.general.rip == 0x20_0100)
    #expect(guest.system.cr0 == 0x11)
    #expect(guest.system.cs.limit == .max && guest.system.cs.base == 0 && guest.system.cs.attributes == 0xc09b)
    #expect(guest.general.rflags & 0x200 == 0)
    #expect(try memory.bytes(0x20_0000, 0x1000) == image + [UInt8](repeating: 0, count: 0xe00))
    let information = guest.general.rbx
    #expect(try memory.word(information) == 0x24d)
    #expect(try memory.word(information + 4) == 639)
    #expect(try memory.word(information + 8) == 63 << 10)
    #expect(try memory.text(UInt64(try memory.word(information + 16))) == "hello world")
    #expect(try memory.text(UInt64(try memory.word(information + 64))) == "Trivisor")
    #expect(try memory.word(information + 20) == 0)
  }

  @Test("the memory map tells of memory above 4 GiB too")
  func memoryMap() throws {
    let memory = try GuestMemory(size: 4 << 30)
    let guest = try load(ImageBuilder.multiboot(load: 0x10_0000), into: memory)
    let length = try memory.word(guest.general.rbx + 44)
    var position = UInt64(try memory.word(guest.general.rbx + 48))
    let end = position + UInt64(length)
    var ranges: [[UInt64]] = []
    while position < end {
      ranges.append([
        try memory.read(at: GuestPhysicalAddress(position + 4)),
        try memory.read(at: GuestPhysicalAddress(position + 12)),
        UInt64(try memory.word(position + 20)),
      ])
      position += UInt64(try memory.word(position)) + 4
    }
    #expect(
      ranges == [
        [0, 0x9fc00, 1], [0x9fc00, 0x400, 2], [0xf_0000, 0x1_0000, 2], [0x10_0000, 0xbff0_0000, 1],
        [0x1_0000_0000, 1 << 30, 1],
      ])
    #expect(try memory.word(guest.general.rbx + 8) == 0xbff0_0000 >> 10)
  }

  @Test("an ELF kernel without address fields is loaded by its segments and begins in protected mode, 64-bit too")
  func elf() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let contents = ImageBuilder.multibootHeader(flags: 3) + [0xf4, 0xf4]
    for image in [
      ImageBuilder.elf64(entry: 0x10_000c, [.init(physical: 0x10_0000, contents: contents)]),
      ImageBuilder.elf32(entry: 0x10_000c, [.init(physical: 0x10_0000, contents: contents)]),
    ] {
      let guest = try load(image, into: memory)
      #expect(guest.kind == .multiboot)
      #expect(guest.general.rip == 0x10_000c)
      #expect(guest.system.efer == 0)
      #expect(try memory.bytes(0x10_0000, contents.count) == contents)
    }
  }

  @Test("modules lie behind the kernel on page boundaries, with their texts")
  func modules() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let first = [UInt8](repeating: 0x11, count: 5000)
    let second = [UInt8](repeating: 0x22, count: 10)
    let guest = try withImage(first, name: "first") { first in
      try withImage(second, name: "second") { second in
        try load(ImageBuilder.multiboot(load: 0x10_0000), into: memory) {
          $0.modules = [BootModule(image: first, commandLine: "one"), BootModule(image: second)]
        }
      }
    }
    let information = guest.general.rbx
    #expect(try memory.word(information + 20) == 2)
    let table = UInt64(try memory.word(information + 24))
    #expect(try memory.word(table) == 0x10_1000)
    #expect(try memory.word(table + 4) == 0x10_1000 + 5000)
    #expect(try memory.text(UInt64(try memory.word(table + 8))) == "one")
    #expect(try memory.word(table + 16) == 0x10_3000)
    #expect(try memory.bytes(0x10_1000, 5000) == first)
    #expect(try memory.bytes(0x10_3000, 10) == second)
  }

  @Test("what the header requires and is not there is refused")
  func refusals() throws {
    var image = ImageBuilder(bytes: ImageBuilder.multiboot(load: 0x10_0000))
    image.put(ImageBuilder.multibootHeader(flags: 1 << 16 | 4), at: 64)
    #expect(try failure(image.bytes)?.description.contains("video mode") == true)
    image.put(ImageBuilder.multibootHeader(flags: 1 << 16 | 0x80), at: 64)
    #expect(try failure(image.bytes)?.description.contains("flags 0x80") == true)
    #expect(try failure([1, 2, 3], kind: .multiboot)?.description.contains("no header") == true)
    image.put(ImageBuilder.multibootHeader(flags: 0), at: 64)
    #expect(try failure(image.bytes)?.description.contains("not of the kind elf") == true)
  }

  @Test("contradictory addresses are refused")
  func contradictions() throws {
    func reason(_ image: [UInt8]) throws -> BootFailure.Reason? { try failure(image)?.reason }
    func malformed(_ image: [UInt8]) throws -> Bool {
      if case .malformed = try failure(image)?.reason { true } else { false }
    }
    #expect(try malformed(ImageBuilder.multiboot(load: 0x10_0000, loadEnd: 0x10_0000)))
    #expect(try malformed(ImageBuilder.multiboot(load: 0x10_0000, bssEnd: 0x10_01ff)))
    var image = ImageBuilder(bytes: ImageBuilder.multiboot(load: 0x10_0000))
    image.put(UInt32(0x10_0041), at: 76)
    #expect(try malformed(image.bytes))
    image.put(UInt32(0x0f_ffff), at: 76)
    #expect(try malformed(image.bytes))
    #expect(
      try reason(ImageBuilder.multiboot(load: 0x10_0000, loadEnd: 0x10_0201))
        == .truncated(part: "the kernel", offset: 0, size: 0x201, imageSize: 0x200))
    #expect(
      try reason(ImageBuilder.multiboot(load: 0x10_0000, entry: 0x10_0200)) == .entryOutsideImage(entry: 0x10_0200))
    #expect(
      try reason(ImageBuilder.multiboot(load: 0xffff_ff00))
        == .outsideMemory(part: "the kernel", base: 0xffff_ff00, size: 0x200))
  }

  @Test("a kernel above 4 GiB is refused")
  func above4GiB() throws {
    let contents = ImageBuilder.multibootHeader(flags: 0)
    let image = ImageBuilder.elf64(entry: 0x1_0000_0000, [.init(physical: 0x1_0000_0000, contents: contents)])
    #expect(try failure(image, memory: 5 << 30)?.description.contains("above 4 GiB") == true)
  }

  @Test("a module that does not fit is refused by its name")
  func largeModule() throws {
    let memory = try GuestMemory(size: 2 << 20)
    #expect(throws: BootFailure("test.img", .noRoom(part: "module big", size: 2 << 20, below: 1 << 32))) {
      try withImage([UInt8](repeating: 1, count: 2 << 20), name: "big") { big in
        try load(ImageBuilder.multiboot(load: 0x10_0000), into: memory) { $0.modules = [BootModule(image: big)] }
      }
    }
  }
}
