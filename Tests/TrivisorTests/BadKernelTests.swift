import Foundation
import Testing

/// A bzImage of a few sectors: a setup header with all that a loader looks at, and any bytes for a kernel.
private struct BareKernel {
  var kernel = [UInt8](repeating: 0xf4, count: 4096)
  var payload: Range<UInt32> = 0..<0
  var initialSize: UInt32 = 0x10_0000
  var preferredAddress: UInt64 = 0x100_0000

  var bytes: [UInt8] {
    var setup = [UInt8](repeating: 0, count: 1024)
    func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) { setup.replaceSubrange(offset..<(offset + $0.count), with: $0) }
    }
    put(UInt8(1), at: 0x1f1)
    put(UInt32((kernel.count + 15) / 16), at: 0x1f4)
    put(UInt16(0xaa55), at: 0x1fe)
    put(UInt16(0x6aeb), at: 0x200)
    setup.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
    put(UInt16(0x020f), at: 0x206)
    put(UInt8(1), at: 0x211)
    put(UInt32(0x7fff_ffff), at: 0x22c)
    put(UInt32(0x20_0000), at: 0x230)
    put(UInt8(1), at: 0x234)
    put(UInt16(1), at: 0x236)
    put(UInt32(2047), at: 0x238)
    put(payload.lowerBound, at: 0x248)
    put(payload.upperBound - payload.lowerBound, at: 0x24c)
    put(preferredAddress, at: 0x258)
    put(initialSize, at: 0x260)
    return setup + kernel
  }
}

@Suite("bad kernels and ramdisks: one sentence and status 127")
final class BadKernelTests {
  private let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")

  init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(at: folder) }

  private func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    let url = folder.appending(path: name)
    try Data(bytes).write(to: url)
    return url.path
  }

  private func expectRefusal(
    _ kernel: [UInt8], _ arguments: [String] = [], saying words: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let result = try Command.run(
      ["run", file("kernel", kernel), "--memory", "64M", "--kind", "linux", "--timeout", "20s"] + arguments)
    #expect(result.status == 127, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.output.isEmpty, sourceLocation: sourceLocation)
    #expect(result.complaints.count == 1, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.contains(words), "\(result.errors)", sourceLocation: sourceLocation)
  }

  @Test(
    "cut off at the boundary of every structure", arguments: [0x1ff, 0x202, 0x206, 0x230, 0x263, 0x3ff, 0x400, 0x1300])
  func truncated(size: Int) throws {
    try expectRefusal(Array(BareKernel().bytes.prefix(size)), saying: "kernel")
  }

  @Test(
    "compressed garbage, by whatever packer",
    arguments: [
      [0x02, 0x21, 0x4c, 0x18], [0x1f, 0x8b, 8], [0x28, 0xb5, 0x2f, 0xfd], [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0],
      [0x42, 0x5a, 0x68, 0x39], [0x5d, 0, 0],
    ] as [[UInt8]])
  func garbage(magic: [UInt8]) throws {
    var image = BareKernel()
    image.kernel = magic + (magic.count..<4092).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ 13) } + [0, 0, 0x10, 0]
    image.payload = 0..<4096
    try expectRefusal(image.bytes, saying: "packed kernel")
  }

  @Test("sizes and addresses that wrap, or that no memory holds")
  func sizes() throws {
    var image = BareKernel()
    image.initialSize = .max
    try expectRefusal(image.bytes, ["--linux-entry", "bzimage"], saying: "kernel")
    image.preferredAddress = .max - 0xfff
    try expectRefusal(image.bytes, ["--linux-entry", "bzimage"], saying: "kernel")
    image = BareKernel()
    image.payload = 0xffff_f000..<0xffff_ffff
    try expectRefusal(image.bytes, saying: "kernel")
  }

  @Test("an initial ramdisk larger than memory, one that is not there, and a command line too long for the kernel")
  func companions() throws {
    let large = folder.appending(path: "large.img").path
    #expect(FileManager.default.createFile(atPath: large, contents: nil))
    #expect(truncate(large, 1 << 30) == 0)
    try expectRefusal(BareKernel().bytes, ["--initrd", large], saying: "ramdisk")
    try expectRefusal(BareKernel().bytes, ["--initrd", "/nowhere/initrd"], saying: "/nowhere/initrd")
    let line = String(repeating: "word ", count: 1000)
    try expectRefusal(BareKernel().bytes, ["--append", line], saying: "command line")
  }
}
