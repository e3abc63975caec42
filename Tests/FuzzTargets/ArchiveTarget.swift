import Glibc
import TrivisorCLinux
import TrivisorImageArchives

/// Archives of systems, packed or not, and the JSON of image layouts. The first byte says which of both.
final class ArchiveTarget: FuzzTarget {
  static let name = "archive"
  static let sizeLimit = 8192
  static var seeds: [[UInt8]] {
    [
      [1] + Array(#"{"manifests":[{"digest":"sha256:00","size":-1.5e3,"a":[true,null,"\u00e9\ud83d\ude00\n"]}]}"#.utf8),
      [0] + entry("a/b", "0", Array("text".utf8)) + entry("c", "5", []) + entry("d", "2", []) + end,
      [0] + entry("x", "x", Array("11 path=e\n".utf8)) + entry("f", "0", [1]) + end,
      [0] + entry("L", "L", Array("long\0".utf8)) + entry("g", "1", []) + end,
    ]
  }

  private static let end = [UInt8](repeating: 0, count: 1024)

  /// A header of ustar, and contents.
  private static func entry(_ name: String, _ kind: Character, _ contents: [UInt8]) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      for (index, byte) in text.utf8.enumerated() { header[offset + index] = byte }
    }
    put(name, at: 0)
    put("0000644", at: 100)
    put("0000000", at: 108)
    put("0000000", at: 116)
    let size = String(contents.count, radix: 8)
    put(String(repeating: "0", count: 11 - size.count) + size, at: 124)
    put("00000000000", at: 136)
    put("        ", at: 148)
    header[156] = kind.asciiValue ?? 0
    put("ustar\u{0}00", at: 257)
    let sum = String(header.reduce(0) { $0 + Int($1) }, radix: 8)
    put(String(repeating: "0", count: 6 - sum.count) + sum + "\u{0}", at: 148)
    return header + contents + [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
  }

  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)

  init() {}
  deinit { room.deallocate() }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    if input.byte() & 1 == 1 {
      _ = JSONValue(Array(input.remainder()))
      return
    }
    let file = memfd_create("fuzz", UInt32(CLINUX_MFD_CLOEXEC))
    let rest = input.remainder()
    guard file >= 0, write(file, rest.baseAddress, rest.count) == rest.count, lseek(file, 0, SEEK_SET) == 0 else {
      close(file)
      return
    }
    guard let reader = try? ByteReader(file, name: "fuzzed", hashes: true) else { return }
    var archive = TarReader(reader, name: "fuzzed")
    // What is packed may be much longer than the input.
    var budget = 4 << 20
    while budget > 0, let entry = try? archive.next() {
      _ = entry
      budget -= 512
      while budget > 0, let count = try? archive.read(into: room), count > 0 { budget -= count }
    }
  }
}
