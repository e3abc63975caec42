// How much memory a guest needs that keeps its root in memory.
//
// Linux unpacks its archives into a tmpfs (init/initramfs.c, mm/shmem.c). While it does, the archives and what is in them
// are in memory at the same time. The tmpfs may take half of the memory that the kernel has at that moment, that is,
// without itself and without the archives; it counts pages, one at least for each file that is not empty, and it may have
// one inode for two pages of that memory. What does not fit is a panic, or a root with files missing.

import TrivisorVMM

/// What is to be unpacked.
public struct RootDemand: Sendable, Equatable {
  /// What a kernel takes for itself, with its modules' and processors' tables.
  private static let kernel: UInt64 = 96 << 20
  /// For the first processes.
  private static let processes: UInt64 = 64 << 20
  /// An inode and the entry that names it, with what the kernel's allocator wastes.
  private static let inodeSize: UInt64 = 1536
  private static let pageSize = GuestMemory.pageSize

  /// The archives' bytes.
  public var archives: UInt64 = 0
  /// Pages of the files in them.
  public var pages: UInt64 = 0
  /// Files, folders and everything else that has a name of its own.
  public var inodes: UInt64 = 0

  /// Nothing yet.
  public init() {}

  /// Bytes of the files once they are unpacked.
  public var unpacked: UInt64 { pages * Self.pageSize }

  /// What the guest touches of its memory before its first process runs, and so the host must have.
  public var touched: UInt64 { Self.kernel + archives + unpacked + inodes * Self.inodeSize }

  /// The guest memory with which the root can be unpacked, and so much be written to it.
  public func memory(room: UInt64) -> UInt64 {
    let forPages = 2 * (unpacked + room)
    let forInodes = 2 * Self.pageSize * (inodes + room / Self.pageSize / 4)
    let forBoth = unpacked + inodes * Self.inodeSize + room + Self.processes
    let sum = Self.kernel + archives + max(forPages, forInodes, forBoth)
    // The kernel describes each page of memory in 64 bytes; as much again for what else grows with it.
    return (sum + sum / 31 + 0xf_ffff) & ~0xf_ffff
  }

  /// The memory that such a root should have: a quarter of what it holds can be written, 64 MiB at least.
  public var comfortableMemory: UInt64 { memory(room: max(unpacked / 4, 64 << 20)) }

  /// The memory below which it can't be unpacked, or nothing could be written.
  public var leastMemory: UInt64 { memory(room: 8 << 20) }

  /// Both together.
  public static func + (left: RootDemand, right: RootDemand) -> RootDemand {
    var sum = left
    sum.archives += right.archives
    sum.pages += right.pages
    sum.inodes += right.inodes
    return sum
  }

  /// Adds a file, a folder or whatever else has an inode.
  public mutating func add(contents: UInt64) {
    inodes += 1
    pages += contents / Self.pageSize + (contents % Self.pageSize == 0 ? 0 : 1)
  }

  /// Adds an archive: what its headers say, if it is not compressed; if it is, four times its size in files of 16 KiB.
  /// - Throws: `BootFailure` when it can't be read.
  public mutating func add(_ image: BootImage) throws(BootFailure) {
    archives += image.size
    var offset: UInt64 = 0
    while offset + UInt64(Self.headerSize) <= image.size {
      let header = try image.read("the archive", at: offset, count: Self.headerSize)
      guard header.holds(Self.magic, at: 0) || header.holds(Self.magicWithChecks, at: 0),
        let size = Self.field(6, header), let nameSize = Self.field(11, header)
      else {
        // Zeros lie between archives, which begin at multiples of 4.
        let zeros = UInt64(header.bytes.prefix { $0 == 0 }.count) & ~3
        if zeros > 0 {
          offset += zeros
          continue
        }
        let rest = image.size - offset
        pages += 4 * rest / Self.pageSize
        inodes += rest / 4096
        return
      }
      add(contents: size)
      let contents = (offset + UInt64(Self.headerSize) + nameSize + 3) & ~3
      offset = (contents + size + 3) & ~3
    }
  }

  private static let headerSize = 110
  private static let magic = Array("070701".utf8)
  private static let magicWithChecks = Array("070702".utf8)

  /// One of a header's thirteen hexadecimal fields.
  private static func field(_ index: Int, _ header: ImageBytes) -> UInt64? {
    UInt64(String(decoding: header.bytes.dropFirst(6 + 8 * index).prefix(8), as: UTF8.self), radix: 16)
  }
}
