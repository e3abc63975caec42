import Glibc
import SystemPackage
import TrivisorDevices
import TrivisorFileServer
import TrivisorVMM

/// A folder of the host's, with files that come and go.
final class FileSystemSubject: FuzzSubject {
  /// Numbers of requests (Linux: include/uapi/linux/fuse.h).
  private enum Operation {
    static let lookup: UInt32 = 1, initialize: UInt32 = 26, destroy: UInt32 = 38, allocate: UInt32 = 43
    static let finding: [UInt32] = [lookup, lookup, 14, 27, 35]
  }

  /// Of a request: how many 64-bit words stand before the names, and how many names there are.
  private static let shapes: [UInt32: (words: Int, names: Int)] = [
    1: (0, 1), 2: (1, 0), 3: (2, 0), 4: (11, 0), 5: (0, 0), 6: (0, 2), 8: (2, 1), 9: (1, 1), 10: (0, 1), 11: (0, 1),
    12: (1, 2), 13: (1, 1), 14: (1, 0), 15: (5, 0), 16: (5, 1), 17: (0, 0), 18: (3, 0), 20: (2, 0), 21: (2, 2),
    22: (1, 1), 23: (1, 0), 24: (0, 1), 25: (3, 0), 26: (8, 0), 27: (1, 0), 28: (5, 0), 29: (3, 0), 30: (2, 0),
    35: (2, 1), 36: (1, 0), 38: (0, 0), 42: (5, 0), 43: (4, 0), 44: (5, 0), 45: (2, 2), 46: (3, 0),
  ]
  private static let operations = shapes.keys.sorted()
  private static let names = [
    "file", "file", "inner", "inner", "link", "made", "other", "..", ".", "", "inner/file", "user.note",
    "security.capability",
    String(repeating: "n", count: 255), String(repeating: "n", count: 256),
  ]
  /// FUSE_ROOT_ID; further nodes are numbered from there.
  private static let nodes: UInt64 = 12
  private static let limits = FileServer.Limits(nodes: 100, openFiles: 20, cachedDescriptors: 8)

  private let folder: FuzzFolder
  private let outside: FuzzFolder
  /// How many requests a new driver has not made yet with which others begin.
  private var beginnings = 0
  let device: any VirtioDevice
  let features: VirtioFeatures = []
  let memory: GuestMemory

  init(isReadOnly: Bool) throws {
    let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : nil
    folder = try FuzzFolder(in: parent)
    outside = try FuzzFolder(in: parent)
    memory = try GuestMemory(size: RandomGuest.memorySize)
    device = VirtioFileSystem(
      try FileServer(SharedFolder(path: folder.path, isReadOnly: isReadOnly), limits: Self.limits), tag: "fuzz")
    try fill()
  }

  private func fill() throws {
    mkdir(folder.path.appending("inner").string, 0o755)
    try folder.put("inner/file", Array("inside".utf8))
    try folder.put("file", [UInt8](repeating: 0x78, count: 5000))
    symlink(outside.path.string, folder.path.appending("link").string)
    mkfifo(folder.path.appending("pipe").string, 0o600)
  }

  func opened() { beginnings = 2 }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    // To know files, and to have them open, comes before most others.
    var operation = random.pick(random.chance(3) ? Operation.finding : Self.operations)
    // Without the first there is nothing but refusals; and either of them makes the device forget all that it knows.
    if operation == Operation.initialize || operation == Operation.destroy, !random.chance(20) {
      operation = Operation.lookup
    }
    if random.chance(200) { operation = UInt32(random.number(below: 60)) }
    if beginnings > 0 {
      beginnings -= 1
      operation = Operation.initialize
    }
    let shape = Self.shapes[operation] ?? (random.number(below: 6), random.number(below: 2))
    var body = FuzzBytes()
    if operation == Operation.initialize {
      // Version, read-ahead, flags.
      for value: UInt32 in [7, random.chance(20) ? 10 : 38, 1 << 20, .max] { body.put(value) }
    }
    for _ in 0..<shape.words { body.put(word(&random, isBounded: operation == Operation.allocate)) }
    for _ in 0..<shape.names { body.put(Array(random.pick(Self.names).utf8) + [0]) }
    var bytes = FuzzBytes()
    let length = UInt32(40 + body.bytes.count)
    bytes.put(random.chance(40) ? UInt32(truncatingIfNeeded: random.next()) : length)
    bytes.put(operation)
    bytes.put(random.next())
    bytes.put(random.chance(40) ? random.next() : random.chance(2) ? 1 : 1 + random.number(below: Self.nodes))
    // User and group, process and padding.
    for _ in 0..<2 { bytes.put(UInt32(random.pick([0, 0, 1000, 65_534]))) }
    bytes.put(random.number(below: 2 as UInt64))
    bytes.put(body.bytes)
    return FuzzRequest(bytes: bytes.bytes, isWhole: !random.chance(8))
  }

  /// A number, or two of 32 bits.
  /// - Parameter isBounded: small, or so large that nothing can be so large: what lies between would be had, and fill the host's disk
  ///   as it may.
  private func word(_ random: inout FuzzRandom, isBounded: Bool) -> UInt64 {
    switch random.number(below: isBounded ? 5 : 6) {
    case 0: random.number(below: 4)
    case 1: random.number(below: 24)
    case 2: random.number(below: 1 << 16)
    case 3: random.pick([0, 4096, 0o100_644, 0o40_755, 0o104_777, 0o120_777, 0o60_600])
    case 4: random.pick([.max, 1 << 62, UInt64(Int64.max), UInt64(Int64.max) + 1])
    default: 0o100_644 << 32 | random.number(below: 8)
    }
  }

  func hostStep(_ random: inout FuzzRandom) {
    switch random.number(below: 200) {
    case 0:
      folder.clear()
      try? fill()
    case 1: rename(folder.path.appending("inner").string, folder.path.appending("other").string)
    case 2: unlink(folder.path.appending("file").string)
    default: break
    }
  }

  func check() throws {
    var status = stat()
    try FuzzFinding.require(
      lstat(outside.path.string, &status) == 0 && status.st_nlink == 2 && status.st_mode & 0o777 == 0o700,
      "something changed outside the folder")
  }
}
