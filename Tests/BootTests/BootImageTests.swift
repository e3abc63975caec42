import TrivisorBoot
import Foundation
import SystemPackage
import Testing
import TrivisorVMM

@Suite("Image files")
struct BootImageTests {
  private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("trivisor-\(UUID().uuidString)")

  init() throws { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) }

  private func withDirectory(_ body: () throws -> Void) throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    try body()
  }

  private func reason(_ path: String) -> BootFailure.Reason? {
    do throws(BootFailure) {
      _ = try BootImage(path: FilePath(path))
      return nil
    } catch {
      return error.reason
    }
  }

  @Test("what is no readable file is named for what it is")
  func refusals() throws {
    try withDirectory {
      #expect(reason(directory.path + "/absent") == .cannotOpen(.noSuchFileOrDirectory))
      #expect(reason(directory.path) == .isDirectory)
      #expect(reason("/dev/null") == .notRegularFile)
      let pipe = directory.path + "/pipe"
      #expect(mkfifo(pipe, 0o600) == 0)
      #expect(reason(pipe) == .notRegularFile)
      let empty = directory.path + "/empty"
      #expect(FileManager.default.createFile(atPath: empty, contents: nil))
      #expect(reason(empty) == .empty)
      #expect(reason(empty + "/below") == .cannotOpen(.notDirectory))
    }
  }

  @Test("a file is loaded like memory")
  func file() throws {
    try withDirectory {
      let path = directory.path + "/flat"
      let bytes = (0..<70000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      let memory = try GuestMemory(size: 4 << 20)
      _ = try BootRequest(image: try BootImage(path: FilePath(path)), kind: .flat32).load(into: memory)
      #expect(try memory.bytes(0x10_0000, bytes.count) == bytes)
    }
  }

  @Test("a file that is cut off after it was opened is an error, not a signal")
  func shrinking() throws {
    try withDirectory {
      let path = directory.path + "/flat"
      try Data(repeating: 1, count: 70000).write(to: URL(fileURLWithPath: path))
      let image = try BootImage(path: FilePath(path))
      #expect(truncate(path, 4096) == 0)
      let memory = try GuestMemory(size: 4 << 20)
      #expect(throws: BootFailure(path, .shrank(offset: 4096))) {
        try BootRequest(image: image, kind: .flat32).load(into: memory)
      }
    }
  }

  @Test(
    "an image of no known kind is described",
    arguments: [
      ("#!/bin/sh", "is a script"), ("070701", "is a cpio archive"), ("MZ", "EFI program"), ("x", "0x78"),
      ("Hello, this is no kernel.", "is text"), ("\u{1}\u{2}\u{3}\u{4}", "first bytes are 0x01 0x02"),
    ])
  func unknownKinds(contents: String, description: String) throws {
    let message = try #require(try failure(Array(contents.utf8))).description
    #expect(message.contains(description))
    #expect(message.contains(": give") || message.contains("set the image's kind"))
  }

  @Test("what others boot, or nobody, is named, with what to do")
  func namedKinds() throws {
    /// An image of `size` bytes with these at these places.
    func image(_ pieces: [(Int, [UInt8])], size: Int = 0x1_1000) throws -> String {
      var image = ImageBuilder()
      image.grow(to: size)
      for (offset, bytes) in pieces { image.put(bytes, at: offset) }
      return try #require(try failure(image.bytes)).description
    }
    func text(_ text: String) -> [UInt8] { Array(text.utf8) }
    let cases: [([(Int, [UInt8])], String)] = [
      ([(0x438, [0x53, 0xef])], "is an ext4 file system, not a kernel: give a kernel, and this by the disk"),
      ([(0x8001, text("CD001"))], "a CD image"),
      ([(0, text("hsqs"))], "is a squashfs"), ([(0x1_0040, text("_BHRfS_M"))], "is a btrfs"),
      ([(0, text("QFI") + [0xfb])], "qemu-img convert"), ([(0x40, [0x7f, 0x10, 0xda, 0xbe])], "VDI"),
      ([(512, text("EFI PART"))], "GUID partition table"),
      ([(257, text("ustar"))], "is a tar archive"), ([(0, [0x1f, 0x8b, 8])], "is compressed (gzip): unpack it first"),
      ([(0x38, [0x41, 0x52, 0x4d, 0x64])], "64-bit ARM"), ([(0, [0x27, 0x05, 0x19, 0x56])], "U-Boot"),
      ([(0x28, text("_FVH"))], "firmware"),
      ([(0x1_0ff0, [0xea, 0x5b, 0xe0, 0, 0xf0]), (0x1_0ff5, text("06/23/99"))], "firmware"),
      (
        [(0, text("MZ")), (0x3c, [0x80]), (0x80, text("PE")), (0x84, [0x64, 0x86]), (0xdc, [10])],
        "EFI program for x86-64"
      ),
      (
        [
          (0, text("MZ")), (0x3c, [0x80]), (0x80, text("PE")), (0x84, [0x64, 0x86, 1]), (0x94, [0xf0]), (0xdc, [10]),
          (0x188, text(".linux")),
        ], "unified kernel image"
      ),
      ([(0, text("MZ")), (0x3c, [0x80]), (0x80, text("PE")), (0x84, [0x64, 0xaa]), (0xdc, [3])], "Windows program"),
      (
        [(0x1000, [0xd6, 0x50, 0x52, 0xe8, 0, 0, 0, 0, 16, 0, 0, 0, 0x1a, 0xaf, 0xad, 0x17])],
        "has a multiboot 2 header"
      ),
    ]
    for (pieces, words) in cases {
      #expect(try image(pieces).contains(words), "\(words)")
    }
    // Larger than a floppy: what begins with a boot sector is a disk.
    #expect(try image([(510, [0x55, 0xaa])], size: 1_474_561).contains("give a kernel, and this by the disk"))
    #expect(
      try image([(510, [0x55, 0xaa]), (512, text("EFI PART"))], size: 1_474_561).contains("GUID partition table"))
  }

  @Test("a packed archive is named by what is in it")
  func packedArchive() throws {
    // A tar's first block: 512 bytes with "ustar" at 257.
    var block = [UInt8](repeating: 0, count: 512)
    block.replaceSubrange(257..<262, with: Array("ustar".utf8))
    // One stored block (RFC 1951, 3.2.4); nobody reads as far as the checksum.
    let stored: [UInt8] = [1, 0x00, 0x02, 0xff, 0xfd] + block
    let gzip: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3] + stored
    let message = try #require(try failure(gzip)).description
    #expect(message.contains("is compressed (gzip), and what is in it is a tar archive"))
  }

  @Test("what looks like a Linux kernel of an old boot protocol is named by what it calls itself")
  func oldProtocol() throws {
    func header(_ name: String) -> [UInt8] {
      var image = ImageBuilder()
      image.grow(to: 4096)
      image.put([0x55, 0xaa], at: 510)
      image.put(Array("HdrS".utf8) + [0x03, 0x02], at: 0x202)
      image.put([0x00, 0x02], at: 0x20e)
      image.put(Array(name.utf8) + [0], at: 0x400)
      return image.bytes
    }
    let memdisk = try #require(try failure(header("MEMDISK 6.04"))).description
    #expect(memdisk.contains("calls itself MEMDISK 6.04") && memdisk.contains("need a BIOS"))
    let linux = try #require(try failure(header("2.6.18-8.el5 (mockbuild)"))).description
    #expect(linux.contains("is Linux 2.6.18-8.el5, whose boot protocol 2.3 is older") && !linux.contains("BIOS"))
  }

  @Test("a Linux kernel that is cut off before its signature is no boot sector", arguments: [512, 514, 517])
  func beginningOfLinux(size: Int) throws {
    var image = ImageBuilder()
    image.grow(to: size)
    image.put(Array("MZ".utf8), at: 0)
    image.put([0x55, 0xaa], at: 510)
    #expect(try failure(image.bytes)?.description.contains("Linux kernel cut off") == true)
  }

  @Test("a disk image with a boot sector is no boot sector")
  func disk() throws {
    var image = ImageBuilder()
    image.grow(to: 1_474_561)
    image.put([0x55, 0xaa], at: 510)
    #expect(try failure(image.bytes)?.description.contains("disk image") == true)
  }
}
