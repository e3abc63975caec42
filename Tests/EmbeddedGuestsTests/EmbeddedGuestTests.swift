import TrivisorEmbeddedGuests
import Foundation
import Testing

@Suite("Embedded guests")
struct EmbeddedGuestTests {
  @Test("each guest is found by its name, and no name twice")
  func names() {
    for guest in EmbeddedGuest.all {
      #expect(EmbeddedGuest.named(guest.name)?.bytes.baseAddress == guest.bytes.baseAddress)
      #expect(EmbeddedGuest.all.filter { $0.name == guest.name }.count == 1)
    }
    #expect(EmbeddedGuest.named("nobody") == nil)
    #expect(EmbeddedGuest.named("") == nil)
  }

  @Test("the names are those of the documentation")
  func allNames() {
    let names = [
      "hello", "hello-real", "hello-protected", "privileged", "features", "compute", "ring3", "smp", "nanobench",
      "crash",
    ]
    #expect(EmbeddedGuest.all.map(\.name) == names)
  }

  @Test("each guest has a recorded run, each run a guest and an output")
  func expectedRuns() throws {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../guests/expected")
    let table = try String(contentsOf: folder.appending(path: "runs.tsv"), encoding: .utf8)
    let runs = table.split(separator: "\n").filter { !$0.hasPrefix("#") }.map {
      $0.split(separator: "\t", omittingEmptySubsequences: false)
    }
    for run in runs {
      try #require(run.count == 5, "\(run)")
      #expect(EmbeddedGuest.named(String(run[1])) != nil, "\(run)")
      #expect(try !Data(contentsOf: folder.appending(path: String(run[0]))).isEmpty, "\(run)")
    }
    #expect(Set(runs.map { String($0[1]) }).isSuperset(of: EmbeddedGuest.all.map(\.name)))
  }

  @Test("summaries are one line of a list")
  func summaries() {
    for guest in EmbeddedGuest.all {
      #expect((10...75).contains(guest.summary.count), "\(guest.name)")
      #expect(!guest.summary.contains("\n") && !guest.summary.hasSuffix("."), "\(guest.name)")
    }
  }

  @Test("the boot sector is 512 bytes and ends with its signature")
  func bootSector() throws {
    let guest = try #require(EmbeddedGuest.named("hello-real"))
    #expect(guest.format == .bootSector)
    #expect(guest.bytes.count == 512)
    #expect(guest.bytes[510] == 0x55 && guest.bytes[511] == 0xaa)
  }

  @Test("ELF images have the class they claim and are executables for x86")
  func elfClass() throws {
    for guest in EmbeddedGuest.all where guest.format != .bootSector {
      #expect(guest.bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]), "\(guest.name)")
      #expect(guest.bytes[4] == (guest.format == .elf64 ? 2 : 1), "\(guest.name)")
      #expect(guest.word(16) == 2, "\(guest.name)")  // ET_EXEC
      #expect(guest.word(18) == (guest.format == .elf64 ? 62 : 3), "\(guest.name)")
    }
  }

  @Test("every ELF image has a multiboot header in its first 8 KiB")
  func multiboot() throws {
    for guest in EmbeddedGuest.all where guest.format != .bootSector {
      let header = try #require(guest.multibootHeader, "\(guest.name)")
      #expect(header % 4 == 0)
      // Address fields are what lets a multiboot loader take a 64-bit ELF.
      #expect((guest.doubleword(header + 4) & 1 << 16 != 0) == (guest.format == .elf64), "\(guest.name)")
    }
  }

  @Test("the multiboot address fields say the same as the only load segment")
  func addressFields() throws {
    for guest in EmbeddedGuest.all where guest.format == .elf64 {
      let header = try #require(guest.multibootHeader)
      let segments = guest.programHeaders.filter { $0.type == 1 }
      let segment = try #require(segments.first)
      #expect(segments.count == 1)
      #expect(UInt64(guest.doubleword(header + 16)) == segment.physicalAddress)
      #expect(UInt64(guest.doubleword(header + 20)) == segment.physicalAddress + segment.fileSize)
      #expect(UInt64(guest.doubleword(header + 24)) == segment.physicalAddress + segment.memorySize)
      // header_addr - load_addr is the header's distance from the first loaded byte, in memory and in the file.
      #expect(Int(guest.doubleword(header + 12) - guest.doubleword(header + 16)) == header - Int(segment.offset))
      #expect(segment.physicalAddress == 0x10_0000)
      #expect(segment.virtualAddress == segment.physicalAddress)
    }
  }

  @Test("the PVH note names the same 32-bit entry as multiboot")
  func pvhNote() throws {
    for guest in EmbeddedGuest.all where guest.format == .elf64 {
      let header = try #require(guest.multibootHeader)
      let segment = try #require(guest.programHeaders.first { $0.type == 4 })
      let note = Int(segment.offset)
      #expect(guest.doubleword(note) == 4 && guest.doubleword(note + 4) == 8)
      #expect(guest.doubleword(note + 8) == 18)  // XEN_ELFNOTE_PHYS32_ENTRY
      #expect(guest.bytes[(note + 12)..<(note + 16)].elementsEqual("Xen\0".utf8))
      #expect(guest.quadword(note + 16) == UInt64(guest.doubleword(header + 28)))
    }
  }
}

extension EmbeddedGuest {
  fileprivate struct ProgramHeader {
    let type: UInt32
    let offset, virtualAddress, physicalAddress, fileSize, memorySize: UInt64
  }

  fileprivate func word(_ offset: Int) -> UInt16 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
  fileprivate func doubleword(_ offset: Int) -> UInt32 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  fileprivate func quadword(_ offset: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }

  /// The file offset of the multiboot 1 header, by its magic number and checksum.
  fileprivate var multibootHeader: Int? {
    stride(from: 0, to: min(8192, bytes.count - 12), by: 4).first {
      doubleword($0) == 0x1BAD_B002 && doubleword($0) &+ doubleword($0 + 4) &+ doubleword($0 + 8) == 0
    }
  }

  /// Of a 64-bit ELF.
  fileprivate var programHeaders: [ProgramHeader] {
    (0..<Int(word(56))).map { index in
      let header = Int(quadword(32)) + index * Int(word(54))
      return ProgramHeader(
        type: doubleword(header), offset: quadword(header + 8), virtualAddress: quadword(header + 16),
        physicalAddress: quadword(header + 24), fileSize: quadword(header + 32), memorySize: quadword(header + 40))
    }
  }
}
