import TrivisorBoot
import Testing
import TrivisorVMM

@testable import TrivisorBoot

/// The domain builder: what kernels say of themselves, in whatever form, and what they find in memory.
@Suite("Xen PV kernels")
struct XenDomainLoaderTests {
  private static let base: UInt64 = 0x40_0000
  private let code = (0..<64).map { UInt8($0) }

  /// One note: owner, type, what it says.
  private static func note(_ type: UInt32, _ value: [UInt8]) -> [UInt8] {
    var image = ImageBuilder()
    image.put(UInt32(4), at: 0)
    image.put(UInt32(value.count), at: 4)
    image.put(type, at: 8)
    image.put(Array("Xen\0".utf8), at: 12)
    image.put(value, at: 16)
    image.grow(to: 16 + (value.count + 3) / 4 * 4)
    return image.bytes
  }

  private static func text(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
  private static func number(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

  private static let usual = note(8, text("generic")) + note(5, text("xen-3.0")) + note(3, number(base))

  private func kernel(_ notes: [UInt8], entry: UInt64 = base) -> [UInt8] {
    ImageBuilder.elf64(
      entry: entry,
      [.init(physical: 0, virtual: Self.base, contents: code), .init(physical: 0, contents: notes, type: 4)])
  }

  /// The same with sections and no segment of notes: one with the contents given, the strings of their names, others.
  private func kernel(
    section name: String, type: UInt32, _ contents: [UInt8], physical: UInt64 = 0,
    others: [(type: UInt32, contents: [UInt8], link: UInt32)] = []
  ) -> [UInt8] {
    var image = ImageBuilder()
    image.put(
      ImageBuilder.elf64(entry: Self.base, [.init(physical: physical, virtual: Self.base, contents: code)]), at: 0)
    let names = "\0" + name + "\0.shstrtab\0"
    var sections: [(name: UInt32, type: UInt32, contents: [UInt8], link: UInt32)] = [
      (1, type, contents, 0), (UInt32(name.utf8.count + 2), 3, Array(names.utf8), 0),
    ]
    sections += others.map { (0, $0.type, $0.contents, $0.link) }
    var offset = 0x1000
    let table = 0x400
    for (index, section) in sections.enumerated() {
      let header = table + (index + 1) * 64
      image.put(section.name, at: header)
      image.put(section.type, at: header + 4)
      image.put(UInt64(offset), at: header + 24)
      image.put(UInt64(section.contents.count), at: header + 32)
      image.put(section.link, at: header + 40)
      image.put(section.contents, at: offset)
      offset += (section.contents.count + 63) / 64 * 64
    }
    image.grow(to: offset)
    image.put(UInt64(table), at: 40)
    image.put(UInt16(64), at: 58)
    image.put(UInt16(sections.count + 1), at: 60)
    image.put(UInt16(2), at: 62)
    return image.bytes
  }

  private func start(_ guest: LoadedGuest) throws -> XenDomainStart {
    guard case .xenDomain(let start) = guest.handover else {
      Issue.record("\(guest.handover)")
      throw BootFailure("", .empty)
    }
    return start
  }

  private func startInfo(_ start: XenDomainStart, _ offset: UInt64, _ memory: GuestMemory) throws -> UInt64 {
    try memory.read(UInt64.self, at: GuestPhysicalAddress(start.startInfo - Self.base + offset))
  }

  @Test("notes in a segment")
  func segmentNotes() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let guest = try load(kernel(Self.usual), into: memory)
    #expect(guest.kind == .xen)
    #expect(try start(guest).entry == Self.base)
    #expect(try memory.bytes(0, code.count) == code)
  }

  @Test("notes in a section, where no segment has any")
  func sectionNotes() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let guest = try load(kernel(section: ".note.Xen", type: 7, Self.usual), into: memory)
    #expect(try start(guest).entry == Self.base)
    #expect(try startInfo(start(guest), 32, memory) == XenMachine.domainFrameCount(memory))
  }

  @Test("the string __xen_guest: physical addresses are virtual ones, the hypercall page has a number")
  func guestString() throws {
    let string = "GUEST_OS=x,XEN_VER=xen-3.0,VIRT_BASE=0x400000,HYPERCALL_PAGE=0x3,LOADER=generic,PAE=yes"
    let memory = try GuestMemory(size: 16 << 20)
    let guest = try load(
      kernel(section: "__xen_guest", type: 1, Self.text(string), physical: Self.base), into: memory)
    #expect(try start(guest).entry == Self.base)
    #expect(try memory.bytes(0, code.count) == code)
    // PUSH RCX; PUSH R11; MOV EAX, 1; SYSCALL
    #expect(try memory.bytes(0x3020, 10) == [0x51, 0x41, 0x53, 0xb8, 1, 0, 0, 0, 0x0f, 0x05])
  }

  @Test("a kernel packed as a file", arguments: [CompressionFormat.gzip, .bzip2, .xz, .lzma, .lz4, .zstd])
  func packed(format: CompressionFormat) throws {
    let memory = try GuestMemory(size: 16 << 20)
    let guest = try load(try LinuxBuilder.pack(kernel(Self.usual), format), into: memory)
    #expect(guest.kind == .xen)
    #expect(try memory.bytes(0, code.count) == code)
  }

  @Test(
    "an initial ramdisk is mapped behind the kernel, or named by its frame and not mapped", arguments: [false, true])
  func ramdisk(byFrame: Bool) throws {
    let memory = try GuestMemory(size: 16 << 20)
    let archive = (0..<5000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    let notes = Self.usual + (byFrame ? Self.note(16, Self.number(1)) : [])
    try archive.withUnsafeBytes { bytes in
      let image = try BootImage(name: "archive", bytes: bytes)
      let guest = try load(kernel(notes), into: memory) { $0.initialRamdisks = [image] }
      let start = try start(guest)
      let module = try startInfo(start, 112, memory)
      #expect(try startInfo(start, 120, memory) == 5000)
      let flags = try startInfo(start, 48, memory) & 0xffff_ffff
      #expect(flags == (byFrame ? 8 : 0))
      let place = byFrame ? module << 12 : module - Self.base
      #expect(try memory.bytes(place, archive.count) == archive)
      // Mapped is what lies before the page tables.
      #expect((place < start.startInfo - Self.base) == !byFrame)
    }
  }

  @Test("the list of frames at an address of its own, where the kernel wants it there")
  func listAddress() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let list: UInt64 = 0x1_0000
    let notes = Self.usual + Self.note(15, Self.number(list))
    let start = try start(try load(kernel(notes), into: memory))
    #expect(try startInfo(start, 104, memory) == list)
    let (first, count) = (try startInfo(start, 1152, memory), try startInfo(start, 1160, memory))
    // The tables that map it come first; all of them may be mapped read-only alone.
    let tables: UInt64 = 3
    #expect(count == tables + (XenMachine.domainFrameCount(memory) * 8 + 4095) / 4096)
    let place = GuestPhysicalAddress((first + tables) << 12)
    #expect(try memory.read(UInt64.self, at: place) == XenMachine.firstFrame)
    // The page tables say so.
    var table = start.rootFrame
    for shift in [39, 30, 21, 12] as [UInt64] {
      let entry = try memory.read(
        UInt64.self, at: GuestPhysicalAddress((table - XenMachine.firstFrame) << 12 + (list >> shift & 511) * 8))
      #expect(entry & 1 == 1)
      table = entry >> 12 & 0xff_ffff_ffff
    }
    #expect(table == XenMachine.firstFrame + first + tables)
  }

  @Test("the kernel's symbols follow it where it asks for them")
  func symbols() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let (symbols, strings) = ([UInt8](repeating: 0x5a, count: 48), Array("\0name\0".utf8))
    let image = kernel(
      section: ".note", type: 7, Self.usual + Self.note(11, Self.text("yes")),
      others: [(2, symbols, 4), (3, strings, 0)])
    _ = try load(image, into: memory)
    // Behind the 64 bytes of the segment: the size, then an ELF header with three sections.
    #expect(try memory.word(64) == 4 + 64 + 3 * 64 + 4 + 48 + 8)
    #expect(try memory.bytes(68, 4) == ELFHeader.magic)
    #expect(try memory.read(UInt16.self, at: GuestPhysicalAddress(68 + 60)) == 3)
    let symbolOffset = try memory.read(UInt64.self, at: GuestPhysicalAddress(68 + 64 + 64 + 24))
    let stringOffset = try memory.read(UInt64.self, at: GuestPhysicalAddress(68 + 64 + 128 + 24))
    #expect(try memory.bytes(68 + symbolOffset, symbols.count) == symbols)
    #expect(try memory.bytes(68 + stringOffset, strings.count) == strings)
  }

  @Test("what can't be had is said before the kernel starts")
  func refusals() throws {
    func reason(_ notes: [UInt8]) throws -> String { "\(try #require(try failure(kernel(notes), kind: .xen)))" }
    #expect(try reason(Self.note(8, Self.text("generic"))).contains("no Xen notes"))
    #expect(try reason(Self.usual + Self.note(10, Self.text("!nothing|dom0"))).contains("feature nothing"))
    #expect(try reason(Self.usual + Self.note(10, Self.text("!auto_translated_physmap"))).contains("auto_translated"))
    #expect(
      try reason(Self.note(8, Self.text("generic")) + Self.note(5, Self.text("xen-3.0")) + Self.note(4, Self.number(0)))
        .contains("PADDR_OFFSET"))
    // Linux without CONFIG_XEN_PV has everything but an entry.
    #expect(try reason(Self.usual + Self.note(18, Self.number(0x100_0000))).contains("no Xen notes"))
    #expect(
      try failure(
        kernel(Self.usual + Self.note(18, Self.number(0x100_0000)) + Self.note(1, Self.number(Self.base))), kind: .xen)
        == nil)
    // Supported, or required and there.
    let fine = Self.usual + Self.note(10, Self.text("!writable_page_tables|pae_pgdir_above_4gb|unknown"))
    #expect(try failure(kernel(fine)) == nil)
  }

  @Test("a kernel for the upper half is taken, and is known as one")
  func upperHalf() throws {
    let memory = try GuestMemory(size: 16 << 20)
    let notes = Self.usual + Self.note(3, Self.number(0xffff_ffff_8000_0000))
    let start = try start(try load(kernel(notes), into: memory))
    #expect(start.isInUpperHalf)
    #expect(start.startInfo > 0xffff_ffff_8000_0000)
  }

  @Test("Linux is known by what it says it is, with an entry for PVH or without, packed or not")
  func linux() throws {
    let notes = Self.usual + Self.note(6, Self.text("linux")) + Self.note(1, Self.number(Self.base))
    let banner = Self.text("Linux version 6.1.0-test (someone@somewhere)")
    let kernel = ImageBuilder.elf64(
      entry: Self.base,
      [
        .init(physical: 0, virtual: Self.base, contents: code + banner),
        .init(physical: 0, contents: notes, type: 4),
      ])
    for bytes in [kernel, try LinuxBuilder.pack(kernel, .gzip)] {
      try withImage(bytes) { image in
        var request = BootRequest(image: image)
        let (kind, identity, release) = try (request.imageKind(), request.linuxIdentity(), request.linuxRelease())
        #expect(kind == .xen)
        #expect(
          identity == LinuxIdentity(kind: .xen, is64Bit: true, ramdiskLimit: GuestLayout.below4GiB.upperBound))
        #expect(release == "6.1.0-test")
        let obstacle = try #require(request.obstacleOutsideDomain).description
        #expect(obstacle.contains("none for PVH") && obstacle.contains("CONFIG_PVH=y"))
        // Words for Linux are in front of its own.
        request.commandLine = "own"
        let line = try commandLine(request)
        #expect(line.hasPrefix("console=hvc0 panic=-1 "))
      }
    }
    try withImage(self.kernel(Self.usual)) { image in
      var request = BootRequest(image: image)
      let identity = try request.linuxIdentity()
      #expect(identity == nil)
      #expect(request.obstacleOutsideDomain?.description.contains("paravirtual interface alone") == true)
      request.commandLine = "own"
      let line = try commandLine(request)
      #expect(line == "own")
    }
    try withImage([0x7f]) { #expect(BootRequest(image: $0).obstacleOutsideDomain == nil) }
  }

  /// What a domain finds in start_info's cmd_line.
  private func commandLine(_ request: BootRequest) throws -> String {
    var request = request
    request.isForDomain = true
    let memory = try GuestMemory(size: 16 << 20)
    let start = try start(try request.load(into: memory))
    let line = try memory.bytes(start.startInfo - Self.base + 128, 128).prefix { $0 != 0 }
    return String(decoding: line, as: UTF8.self)
  }

  @Test("cut off anywhere it is refused or taken, and never read beyond")
  func cutOff() throws {
    let image = kernel(section: ".note.Xen", type: 7, Self.usual + Self.note(11, Self.text("yes")))
    for size in stride(from: 1, to: image.count, by: 7) { _ = try failure(Array(image[..<size]), kind: .xen) }
  }
}
