import Testing
import TrivisorVMM

@testable import TrivisorBoot

@Suite("Linux as packaged")
struct LinuxLoaderTests {
  @Test("a packed kernel is unpacked, byte for byte, and entered by PVH", arguments: CompressionFormat.allCases)
  func unpacked(format: CompressionFormat) throws {
    let memory = try GuestMemory(size: 64 << 20)
    try memory.copy([UInt8](repeating: 0xee, count: 110_000), to: GuestPhysicalAddress(0x120_0000))
    let vmlinux = LinuxBuilder.vmlinux()
    let guest = try load(LinuxBuilder.bzImage(try LinuxBuilder.pack(vmlinux, format)), into: memory)
    #expect(guest.kind == .linux)
    #expect(guest.general.rip == LinuxBuilder.pvhEntry)
    #expect(guest.system.cr0 == 0x11 && guest.system.efer == 0)
    #expect(try memory.bytes(LinuxBuilder.kernelBase, 200_000) == Array(vmlinux[0x200..<(0x200 + 200_000)]))
    #expect(try memory.bytes(0x120_0000, 70_000) == LinuxBuilder.contents(70_000, seed: 2))
    #expect(try memory.bytes(0x120_0000 + 70_000, 30_000).allSatisfy { $0 == 0 })
    #expect(try memory.bytes(0x120_0000 + 100_000, 1) == [0xee])
  }

  @Test("a kernel of several packed blocks is put together")
  func blocks() throws {
    let memory = try GuestMemory(size: 64 << 20)
    var vmlinux = ImageBuilder(bytes: LinuxBuilder.vmlinux())
    vmlinux.grow(to: (8 << 20) + 1000)
    let text = LinuxBuilder.contents(1 << 20, seed: 9)
    // The second segment's contents lie across the border between two blocks.
    let offset = (8 << 20) - 5000
    vmlinux.put(text.prefix(5900) + [], at: offset)
    vmlinux.put(UInt64(offset), at: 64 + 56 + 8)
    vmlinux.put(UInt64(5900), at: 64 + 56 + 32)
    _ = try load(LinuxBuilder.bzImage(try LinuxBuilder.pack(vmlinux.bytes, .lz4)), into: memory)
    #expect(try memory.bytes(0x120_0000, 5900) == Array(text.prefix(5900)))
  }

  @Test("PVH's start information holds memory map, ramdisk, command line and ACPI's root pointer")
  func startInformation() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let ramdisk = LinuxBuilder.contents(10_001, seed: 4)
    let guest = try withImage(ramdisk) { ramdisk in
      try load(LinuxBuilder.bzImage(try LinuxBuilder.pack(LinuxBuilder.vmlinux(), .gzip)), into: memory) {
        $0.initialRamdisks = [ramdisk]
        $0.commandLine = "root=/dev/vda"
        $0.rootSystemDescriptionPointer = GuestPhysicalAddress(0xf_0000)
      }
    }
    func quad(_ address: UInt64) throws -> UInt64 { try memory.read(at: GuestPhysicalAddress(address)) }
    let base = guest.general.rbx
    #expect(try memory.word(base) == 0x336e_c578)
    #expect(try memory.word(base + 4) == 1)
    #expect(try memory.word(base + 12) == 1)
    let module = try quad(base + 16)
    #expect(try memory.bytes(try quad(module), ramdisk.count) == ramdisk)
    #expect(try quad(module) + 10_001 <= 64 << 20 && quad(module) > 60 << 20)
    #expect(try quad(module + 8) == 10_001)
    #expect(try memory.text(try quad(base + 24)) == LinuxCommandLine.defaults + " root=/dev/vda")
    #expect(try quad(base + 32) == 0xf_0000)
    #expect(try memory.word(base + 48) == 4)
    let map = try quad(base + 40)
    #expect(try [quad(map), quad(map + 8), quad(map + 16)] == [0, 0x9fc00, 1])
    #expect(try [quad(map + 72), quad(map + 80), quad(map + 88)] == [0x10_0000, 63 << 20, 1])
    #expect(guest.system.task.limit == 0x67)
  }

  @Test("as packaged: the 64-bit boot protocol's registers and boot parameters")
  func packaged() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let image = LinuxBuilder.bzImage([1, 2, 3, 4, 5, 6, 7, 8])
    let guest = try withImage([1, 2, 3]) { first in
      try withImage([4, 5, 6, 7, 8]) { second in
        try load(image, into: memory) {
          $0.linuxEntry = .bzImage
          $0.addsDefaultCommandLine = false
          $0.commandLine = "quiet"
          $0.initialRamdisks = [first, second]
          $0.randomSeed = [9, 8, 7]
          $0.rootSystemDescriptionPointer = GuestPhysicalAddress(0xf_0000)
        }
      }
    }
    #expect(guest.general.rip == 0x100_0200)
    #expect(guest.system.efer == 0x500)
    #expect(guest.system.cs.selector == 0x10 && guest.system.ds.selector == 0x18)
    #expect(try memory.bytes(0x100_0000, image.count - 1024) == Array(image[1024...]))
    let zero = guest.general.rsi
    #expect(try memory.bytes(zero + 0x202, 4) == Array("HdrS".utf8))
    #expect(try memory.bytes(zero + 0x210, 1) == [0xff])
    #expect(try memory.word(zero + 0x214) == 0x100_0000)
    #expect(try memory.text(UInt64(try memory.word(zero + 0x228))) == "quiet")
    let ramdisk = UInt64(try memory.word(zero + 0x218))
    #expect(try memory.word(zero + 0x21c) == 9)
    #expect(try memory.bytes(ramdisk, 9) == [1, 2, 3, 0, 4, 5, 6, 7, 8])
    #expect(try memory.word(zero + 0x70) == 0xf_0000)
    #expect(try memory.bytes(zero + 0x1e8, 1) == [4])
    #expect(try memory.word(zero + 0x2d0 + 20) == 0x9fc00)
    #expect(try memory.word(zero + 0x2d0 + 36) == 2)
    let seed = UInt64(try memory.word(zero + 0x250))
    #expect(try memory.bytes(seed, 19) == [0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 9, 8, 7])
  }

  @Test("a kernel without PVH note, or packed in an unknown way, is entered as packaged")
  func fallback() throws {
    let memory = try GuestMemory(size: 64 << 20)
    for payload in [
      try LinuxBuilder.pack(LinuxBuilder.vmlinux(notes: LinuxBuilder.note(6, Array("linux".utf8))), .zstd),
      try LinuxBuilder.pack(LinuxBuilder.contents(100_000, seed: 5), .gzip),
      [0x89, 0x4c, 0x5a, 0x4f, 0, 0, 0, 0],
    ] {
      #expect(try load(LinuxBuilder.bzImage(payload), into: memory).general.rip == 0x100_0200)
      let refusal = try failure(LinuxBuilder.bzImage(payload), memory: 64 << 20) { $0.linuxEntry = .pvh }
      #expect(refusal?.description.contains("can't be entered by PVH") == true)
    }
  }

  @Test("a relocatable kernel goes above a reserved range, one that is not is refused")
  func relocation() throws {
    let memory = try GuestMemory(size: 64 << 20)
    var map = MemoryMap(memory)
    map.reserve(from: 0x110_0000, to: 0x110_1000)
    let guest = try load(LinuxBuilder.bzImage([1]), into: memory) { $0.memoryMap = map }
    #expect(guest.general.rip == 0x120_0200)
    #expect(throws: BootFailure("test.img", .outsideMemory(part: "the kernel", base: 0x100_0000, size: 0x80_0000))) {
      try load(LinuxBuilder.bzImage([1], .init(relocatable: 0)), into: memory) { $0.memoryMap = map }
    }
  }

  @Test("an i386 kernel is entered by the 32-bit boot protocol")
  func i386() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let guest = try load(LinuxBuilder.bzImage([1], .init(extendedFlags: 0)), into: memory)
    #expect(guest.general.rip == 0x100_0000)
    #expect(guest.system.efer == 0 && guest.system.cr0 == 0x11)
    #expect(guest.system.gdt.limit == 31)
    #expect(try memory.bytes(guest.general.rsi + 0x202, 4) == Array("HdrS".utf8))
  }

  @Test("a ramdisk that does not fit below its limit goes above 4 GiB if the kernel takes it there")
  func highRamdisk() throws {
    let memory = try GuestMemory(size: 4 << 30)
    let header = LinuxBuilder.Header(ramdiskMaximum: 0x1f_ffff)
    let ramdisk = [UInt8](repeating: 7, count: 2 << 20)
    let guest = try withImage(ramdisk) { image in
      try load(LinuxBuilder.bzImage([1], header), into: memory) { $0.initialRamdisks = [image] }
    }
    let low = try memory.word(guest.general.rsi + 0x218)
    let high = try memory.word(guest.general.rsi + 0xc0)
    #expect(high == 1)
    #expect(try memory.bytes(UInt64(high) << 32 | UInt64(low), ramdisk.count) == ramdisk)
    var noFlag = header
    noFlag.extendedFlags = 1
    let refusal = try withImage(ramdisk) { image in
      try failure(LinuxBuilder.bzImage([1], noFlag), memory: 4 << 30) { $0.initialRamdisks = [image] }
    }
    #expect(refusal?.reason == .noRoom(part: "the initial ramdisk", size: 2 << 20, below: 0x20_0000))
  }

  @Test("what is too much is refused")
  func excess() throws {
    let image = LinuxBuilder.bzImage([1], .init(commandLineSize: 100))
    let long = try failure(image, memory: 64 << 20) {
      $0.commandLine = String(repeating: "x", count: 101)
      $0.addsDefaultCommandLine = false
    }
    #expect(long?.reason == .commandLineTooLong(count: 101, limit: 100))
    let large = try withImage([UInt8](repeating: 1, count: 65 << 20)) { ramdisk in
      try failure(image, memory: 64 << 20) { $0.initialRamdisks = [ramdisk] }
    }
    #expect(large?.reason == .noRoom(part: "the initial ramdisk", size: 65 << 20, below: 0x8000_0000))
    let zero = try failure(image, memory: 64 << 20) { $0.commandLine = "a\0b" }
    #expect(zero?.description.contains("zero byte") == true)
  }

  @Test(
    "a stream that announces less than it holds, more than it holds, or more than memory is refused",
    arguments: CompressionFormat.allCases)
  func wrongSizes(format: CompressionFormat) throws {
    let vmlinux = LinuxBuilder.vmlinux()
    let payload = try LinuxBuilder.pack(vmlinux, format)
    for size in [0, 1, 63, 0x200, vmlinux.count - 1, vmlinux.count + 1, 65 << 20, 0xffff_ffff] {
      var payload = ImageBuilder(bytes: payload)
      payload.put(UInt32(size), at: payload.bytes.count - 4)
      #expect(try failure(LinuxBuilder.bzImage(payload.bytes), memory: 64 << 20) != nil, "\(size)")
    }
  }

  @Test(
    "a setup header that contradicts itself is refused",
    arguments: [
      (0x206, [UInt8(0x09), 0x02], "2.9"), (0x211, [0], "zImage"), (0x230, [3, 0, 0, 0], "power of two"),
      (0x201, [0x10], "before its own fields"), (0x1f4, [0, 0, 0, 0], "no protected-mode kernel"),
      (0x1f4, [0, 0, 1, 0], "cut off"), (0x24c, [0xff, 0xff, 0xff, 0xff], "outside"), (0x1f1, [200], "cut off"),
    ])
  func contradictions(offset: Int, value: [UInt8], message: String) throws {
    var image = ImageBuilder(bytes: LinuxBuilder.bzImage([1, 2, 3, 4, 5, 6]))
    image.put(value, at: offset)
    let refusal = try failure(image.bytes, memory: 64 << 20)
    #expect(refusal?.description.contains(message) == true, "\(String(describing: refusal))")
  }
}

@Suite("ELF kernels with a PVH note")
struct PVHLoaderTests {
  @Test("a vmlinux is recognised and gets Linux's command line")
  func vmlinux() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let guest = try load(LinuxBuilder.vmlinux(), into: memory) { $0.commandLine = "quiet" }
    #expect(guest.kind == .pvh)
    #expect(guest.general.rip == LinuxBuilder.pvhEntry)
    let line: UInt64 = try memory.read(at: GuestPhysicalAddress(guest.general.rbx + 24))
    #expect(try memory.text(line) == LinuxCommandLine.defaults + " quiet")
  }

  @Test("a vmlinux that is not made for Xen is known by the notes of its build; without an entry, what to do is said")
  func ownNotes() throws {
    let memory = try GuestMemory(size: 64 << 20)
    // LINUX_ELFNOTE_BUILD_SALT.
    let build = LinuxBuilder.note(0x100, [0], owner: "Linux")
    let entry = LinuxBuilder.note(18, withUnsafeBytes(of: LinuxBuilder.pvhEntry.littleEndian) { Array($0) })
    let guest = try load(LinuxBuilder.vmlinux(notes: build + entry), into: memory) { $0.commandLine = "nokaslr" }
    #expect(guest.kind == .pvh)
    let line: UInt64 = try memory.read(at: GuestPhysicalAddress(guest.general.rbx + 24))
    #expect(try memory.text(line) == LinuxCommandLine.defaults + " nokaslr")
    let refusal = try failure(LinuxBuilder.vmlinux(notes: build), memory: 64 << 20)
    #expect(refusal?.description.contains("CONFIG_PVH=y") == true)
  }

  @Test("another kernel gets its command line alone, and its modules with theirs")
  func modules() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let image = LinuxBuilder.vmlinux(notes: LinuxBuilder.pvhNotes(os: "other"))
    let guest = try withImage([1, 2, 3]) { module in
      try load(image, into: memory) {
        $0.commandLine = "x"
        $0.modules = [BootModule(image: module, commandLine: "text")]
      }
    }
    func quad(_ address: UInt64) throws -> UInt64 { try memory.read(at: GuestPhysicalAddress(address)) }
    #expect(try memory.text(try quad(guest.general.rbx + 24)) == "x")
    let module = try quad(guest.general.rbx + 16)
    #expect(try memory.bytes(try quad(module), 3) == [1, 2, 3])
    #expect(try memory.text(try quad(module + 16)) == "text")
  }

  @Test("an entry note outside the kernel is refused, and so is its absence")
  func refusals() throws {
    for entry in [0, 0x9_0000, 0x140_0000, UInt64.max, 0x1_0100_0040] {
      let image = LinuxBuilder.vmlinux(notes: LinuxBuilder.pvhNotes(entry: entry))
      #expect(try failure(image, memory: 64 << 20)?.reason == .entryOutsideImage(entry: entry))
    }
    let plain = LinuxBuilder.vmlinux(notes: [])
    #expect(try failure(plain, kind: .pvh, memory: 64 << 20)?.description.contains("XEN_ELFNOTE_PHYS32_ENTRY") == true)
    let modules = try withImage([1]) { module in
      try failure(LinuxBuilder.vmlinux(), memory: 64 << 20) { $0.modules = [BootModule(image: module)] }
    }
    #expect(modules?.description.contains("the initial ramdisk") == true)
  }
}
