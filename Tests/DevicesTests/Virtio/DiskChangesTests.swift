import Glibc
import SystemPackage
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Changes of a disk apart from its image")
struct DiskChangesTests {
  private static let sectorCount = 1000

  private func image() throws -> TemporaryFile {
    try TemporaryFile((0..<Self.sectorCount * 512).map { UInt8(truncatingIfNeeded: $0 / 512 + 1) })
  }

  /// As a list of pieces that are not even whole sectors.
  private func withList<Result>(
    _ bytes: UnsafeMutableRawBufferPointer, cut: Int, _ body: (inout BufferList) -> Result
  ) -> Result {
    var pieces: [iovec] = []
    var offset = 0
    while offset < bytes.count {
      let count = min(cut, bytes.count - offset)
      pieces.append(iovec(iov_base: bytes.baseAddress.map { $0 + offset }, iov_len: count))
      offset += count
    }
    return pieces.withUnsafeMutableBufferPointer { pieces in
      guard let base = pieces.baseAddress else { preconditionFailure("no pieces") }
      var list = BufferList(pointer: base, count: pieces.count, byteCount: bytes.count)
      return body(&list)
    }
  }

  @Test(
    "what was written is read, the rest is the image's, and the image stays", arguments: 1...6 as ClosedRange<UInt64>)
  func random(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let file = try image()
    let before = file.content
    var expected = before
    let disk = try DiskImage(path: file.path, isReadOnly: false, changes: DiskChanges())
    // A second machine with the same image.
    let other = try DiskImage(path: file.path, isReadOnly: false, changes: DiskChanges())
    for _ in 0..<400 {
      let first = Int.random(in: 0..<Self.sectorCount, using: &generator)
      let limit = UInt8.random(in: 0..<2, using: &generator) == 0 ? 4 : 300
      let count = Int.random(in: 1...min(limit, Self.sectorCount - first), using: &generator)
      let range = 512 * first..<512 * (first + count)
      var bytes = [UInt8](repeating: UInt8.random(in: 0...255, using: &generator), count: range.count)
      let cut = Int.random(in: 1...2, using: &generator) * 700
      switch UInt8.random(in: 0..<6, using: &generator) {
      case 0, 1:
        let error = bytes.withUnsafeMutableBytes { bytes in
          withList(bytes, cut: cut) { disk.write(UInt64(first), from: &$0) }
        }
        #expect(error == nil)
        expected.replaceSubrange(range, with: bytes)
      case 2:
        #expect(bytes.withUnsafeBytes { disk.write(UInt64(first), from: $0) })
        expected.replaceSubrange(range, with: bytes)
      case 3:
        let error =
          seed % 2 == 0
          ? disk.discard(UInt64(first), count: UInt64(count))
          : disk.clear(UInt64(first), count: UInt64(count), frees: false)
        #expect(error == nil)
        expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
      case 4:
        let error = bytes.withUnsafeMutableBytes { bytes in
          withList(bytes, cut: cut) { disk.read(UInt64(first), into: &$0) }
        }
        #expect(error == nil && bytes == Array(expected[range]))
      default:
        #expect(bytes.withUnsafeMutableBytes { disk.read(UInt64(first), into: $0) })
        #expect(bytes == Array(expected[range]))
      }
    }
    #expect(disk.flush() == nil)
    var whole = [UInt8](repeating: 0, count: before.count)
    #expect(whole.withUnsafeMutableBytes { disk.read(0, into: $0) })
    #expect(whole == expected)
    #expect(whole.withUnsafeMutableBytes { other.read(0, into: $0) })
    #expect(whole == before)
    #expect(file.content == before)
    // Saved and restored: the same content by way of another's changes.
    let saved = try throughJSON(#require(disk.changes).save())
    try #require(other.changes).restore(saved)
    #expect(whole.withUnsafeMutableBytes { other.read(0, into: $0) })
    #expect(whole == expected)
    #expect(try #require(other.changes).save() == saved)
  }

  @Test("what was never a disk's changes is refused")
  func hostile() throws {
    let file = try image()
    let changes = try DiskChanges()
    let disk = try DiskImage(path: file.path, isReadOnly: false, changes: changes)
    #expect([UInt8](repeating: 9, count: 512).withUnsafeBytes { disk.write(7, from: $0) })
    let saved = try changes.save()
    for piece in [
      DiskChanges.Saved.Piece(sector: 1000, bytes: [UInt8](repeating: 0, count: 512)),
      .init(sector: .max, bytes: [UInt8](repeating: 0, count: 512)), .init(sector: 3, bytes: [1, 2, 3]),
    ] {
      var spoiled = saved
      spoiled.pieces.append(piece)
      #expect(throws: RestoreFailure.self) { try changes.restore(spoiled) }
      #expect(try changes.save() == saved)
    }
    var larger = saved
    larger.sectorCount = 1001
    #expect(throws: RestoreFailure.self) { try changes.restore(larger) }
  }

  @Test("after a reset a machine finds what it has written, and not on an image that became another")
  func reset() throws {
    let file = try image()
    let changes = try DiskChanges()
    do {
      let disk = try DiskImage(path: file.path, isReadOnly: false, changes: changes)
      #expect([UInt8](repeating: 9, count: 512).withUnsafeBytes { disk.write(7, from: $0) })
    }
    let again = try DiskImage(path: file.path, isReadOnly: false, changes: changes)
    var bytes = [UInt8](repeating: 0, count: 512)
    #expect(bytes.withUnsafeMutableBytes { again.read(7, into: $0) })
    #expect(bytes == [UInt8](repeating: 9, count: 512))
    #expect(truncate(file.path.string, 512 * 10) == 0)
    #expect(throws: DeviceFailure.self) { try DiskImage(path: file.path, isReadOnly: false, changes: changes) }
  }
}
