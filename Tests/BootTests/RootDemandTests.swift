import TrivisorBoot
import Foundation
import SystemPackage
import Testing

@Suite("How much memory a root in memory needs")
struct RootDemandTests {
  /// A quarter of the memory without kernel and archives, in pages: what Linux gives the tmpfs at least.
  private func tmpfsPages(_ memory: UInt64, _ demand: RootDemand) -> UInt64 {
    (memory - memory / 64 - (96 << 20) - demand.archives) / 2 / 4096
  }

  @Test(
    "pages and inodes fit the tmpfs, and there is room to write",
    arguments: [
      (count: UInt64(1), size: UInt64(400 << 20)), (30_000, 2), (200_000, 0), (1, 1 << 30), (10, 100), (50_000, 5000),
    ])
  func fits(count: UInt64, size: UInt64) {
    var demand = RootDemand()
    for _ in 0..<count { demand.add(contents: size) }
    demand.archives = count * ((size + 3) / 4 * 4 + 128)
    let pages = count * ((size + 4095) / 4096)
    #expect(demand.pages == pages)
    #expect(demand.inodes == count)
    let memory = demand.comfortableMemory
    #expect(tmpfsPages(memory, demand) >= pages + (64 << 20) / 4096)
    #expect(tmpfsPages(memory, demand) >= count)
    #expect(demand.leastMemory < memory)
    #expect(demand.touched < memory)
    #expect(memory % (1 << 20) == 0)
  }

  @Test("an archive that is not compressed says what is in it; one that is, is estimated")
  func archives() throws {
    var builder = InitialArchiveBuilder()
    builder.addDirectory("folder")
    for index in 0..<100 { builder.addFile("folder/\(index)", [1, 2]) }
    builder.addFile("large", [UInt8](repeating: 7, count: 10_000))
    let archive = BootImage(name: "archive", archive: builder.finish())
    var demand = RootDemand()
    try demand.add(archive)
    #expect(demand.archives == archive.size)
    #expect(demand.pages == 103)
    // The entry that ends it counts, too.
    #expect(demand.inodes == 103)
    var packed = RootDemand()
    let bytes = [0x1f, 0x8b] + [UInt8](repeating: 0x55, count: 1 << 20)
    try bytes.withUnsafeBytes { try packed.add(BootImage(name: "packed", bytes: $0)) }
    #expect(packed.pages >= 1024)
  }

  @Test("archives of any bytes end")
  func anyBytes() throws {
    for head in [[UInt8](), Array("070701".utf8), [UInt8](repeating: 0, count: 6)] {
      for fill in [UInt8(0), UInt8(ascii: "0"), UInt8(ascii: "f"), 0xff] {
        var demand = RootDemand()
        try (head + [UInt8](repeating: fill, count: 4000)).withUnsafeBytes {
          try demand.add(BootImage(name: "bytes", bytes: $0))
        }
        #expect(demand.archives >= 4000)
      }
    }
  }

  @Test("a folder that is too much is left when that is known")
  func stops() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-root-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    for name in ["a", "b", "c"] {
      try FileManager.default.createDirectory(at: folder.appending(path: name), withIntermediateDirectories: true)
      try Data(count: 5000).write(to: folder.appending(path: name + "/file"))
    }
    var whole = InitialArchiveBuilder()
    let summary = try whole.addFolder(FilePath(folder.path))
    #expect(summary.isComplete)
    #expect(summary.demand.pages == 6)
    #expect(summary.demand.inodes == 6)
    var part = InitialArchiveBuilder()
    let stopped = try part.addFolder(FilePath(folder.path)) { $0.pages < 2 }
    #expect(!stopped.isComplete)
    #expect(stopped.demand.pages == 2)
    var last = InitialArchiveBuilder()
    #expect(try !last.addFolder(FilePath(folder.path)) { $0.pages < 6 }.isComplete)
  }
}
