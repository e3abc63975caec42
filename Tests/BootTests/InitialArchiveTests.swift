import Foundation
import SystemPackage
import Testing

@testable import TrivisorBoot

@Suite("the archive for Linux's first root")
struct InitialArchiveTests {
  private func read(_ archive: InitialArchive, chunk: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xaa, count: Int(archive.size))
    var position = 0
    while position < bytes.count {
      let count = min(chunk, bytes.count - position)
      try bytes.withUnsafeMutableBytes {
        try archive.fill(
          UnsafeMutableRawBufferPointer(rebasing: $0[position..<(position + count)]), from: UInt64(position))
      }
      position += count
    }
    return bytes
  }

  /// A folder with one of everything that needs no privilege.
  private func makeFolder() throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder.appending(path: "a/b"), withIntermediateDirectories: true)
    try Data("hello".utf8).write(to: folder.appending(path: "a/file"))
    try Data(repeating: 7, count: 300_001).write(to: folder.appending(path: "a/b/large"))
    #expect(link(folder.path + "/a/file", folder.path + "/linked") == 0)
    #expect(symlink("a/file", folder.path + "/symbolic") == 0)
    #expect(mkfifo(folder.path + "/pipe", 0o644) == 0)
    #expect(chmod(folder.path + "/a/file", 0o751) == 0)
    return folder
  }

  @Test(
    "cpio unpacks what was packed", .enabled(if: access("/usr/bin/cpio", X_OK) == 0 || access("/bin/cpio", X_OK) == 0))
  func cpio() throws {
    let folder = try makeFolder()
    let target = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    defer {
      try? FileManager.default.removeItem(at: folder)
      try? FileManager.default.removeItem(at: target)
    }
    var builder = InitialArchiveBuilder()
    let summary = try builder.addFolder(FilePath(folder.path))
    #expect(summary.omissions.isEmpty)
    #expect(summary.entries == 7)
    let bytes = try read(builder.finish(), chunk: 4099)
    try Data(bytes).write(to: target.appending(path: "archive"))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", "cpio -i --quiet --no-absolute-filenames < archive && rm archive && diff -r \(folder.path)/a a",
    ]
    process.currentDirectoryURL = target
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    var first = stat()
    var second = stat()
    stat(target.path + "/a/file", &first)
    stat(target.path + "/linked", &second)
    #expect(first.st_ino == second.st_ino)
    #expect(first.st_mode & 0o777 == 0o751)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: target.path + "/symbolic") == "a/file")
    lstat(target.path + "/pipe", &first)
    #expect(first.st_mode & S_IFMT == S_IFIFO)
  }

  @Test("the bytes are the same however they are asked for", arguments: [1, 3, 127, 65536])
  func chunks(size: Int) throws {
    var builder = InitialArchiveBuilder()
    builder.addDirectory("dev")
    builder.addCharacterDevice("dev/console", major: 5, minor: 1)
    builder.addFile("file", Array(repeating: 1, count: 1001))
    let archive = builder.finish()
    let bytes = try read(archive, chunk: size)
    #expect(bytes == (try read(archive, chunk: 1 << 20)))
    #expect(bytes.count % 4 == 0)
    #expect(bytes.starts(with: Array("070701".utf8)))
    #expect(String(decoding: bytes, as: UTF8.self).contains("TRAILER!!!"))
  }

  @Test("a file that became shorter is an error, not other bytes")
  func shrunk() throws {
    let folder = try makeFolder()
    defer { try? FileManager.default.removeItem(at: folder) }
    var builder = InitialArchiveBuilder()
    _ = try builder.addFolder(FilePath(folder.path))
    let archive = builder.finish()
    try Data("x".utf8).write(to: folder.appending(path: "a/b/large"))
    #expect(throws: BootFailure.self) { try read(archive, chunk: 4096) }
  }

  @Test("what is no folder is refused")
  func noFolder() {
    var builder = InitialArchiveBuilder()
    #expect(throws: BootFailure.self) { try builder.addFolder("/nonexistent") }
    #expect(throws: BootFailure.self) { try builder.addFolder("/etc/passwd") }
  }
}
