import Boot
import Foundation
import SystemPackage
import Testing
import VMM

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
      ("#!/bin/sh", "script"), ("070701", "cpio"), ("hello", "first bytes are 0x68 0x65"), ("MZ", "EFI"), ("x", "0x78"),
    ])
  func unknownKinds(contents: String, description: String) throws {
    let message = try #require(try failure(Array(contents.utf8))).description
    #expect(message.contains(description))
    #expect(message.contains("--kind"))
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
