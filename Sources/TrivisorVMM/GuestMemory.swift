// A guest's RAM.
//
// All of it is mapped once into this process. The guest sees it in one or two regions, because a PC keeps
// the last gigabyte below 4 GiB for devices:
//
//     guest physical   0 ──────────── 3 GiB        4 GiB ──────────── 4 GiB + rest
//                      │   low        │   devices   │   high          │
//     file, host       0 ──────────── 3 GiB ─────────────────────────── size
//
// A technique that maps parts of it a second time, or shares it with a sandboxed process, gets a memfd. One that doesn't
// gets anonymous memory, because that comes in pages of 2 MiB where the host has them: a guest then touches 512 times as
// much before the host has to act, and each miss of the processor's TLB walks two tables less. Of a memfd, hosts make
// small pages unless they were set up otherwise. `MAP_NORESERVE`, so that 64 GiB of guest memory cost nothing until the guest touches them.
//
// Everything that comes from a guest or an image goes through the checked accessors here: a range that is not wholly
// RAM is a `GuestMemoryFault`, never a trap.

import TrivisorCLinux
import Glibc
import SystemPackage

/// The RAM of one machine: mapped, bounds-checked, shared between the processors and the devices.
///
/// Accesses are not ordered against the guest's: whoever shares a structure with a running guest copies it once and
/// validates the copy.
public final class GuestMemory: Sendable {
  /// One contiguous piece of RAM as the guest sees it.
  public struct Region: Sendable {
    /// Where the guest sees it.
    public let base: GuestPhysicalAddress
    /// Its length in bytes.
    public let size: UInt64
    /// Where it begins in the memfd, if there is one, in bytes.
    public let fileOffset: UInt64
    /// Where it begins in this process.
    public nonisolated(unsafe) let host: UnsafeMutableRawPointer

    /// The first address behind the region.
    public var end: UInt64 { base.rawValue + size }
  }

  /// Devices own the guest's address space from here to 4 GiB.
  public static let deviceHoleBase: UInt64 = 0xc000_0000
  /// Where the memory that did not fit below the hole goes on.
  public static let highBase: UInt64 = 0x1_0000_0000
  /// Sizes are multiples of this, in bytes: the page of x86.
  public static let pageSize: UInt64 = 4096

  /// In ascending order of address; one region, or two around the device hole.
  public let regions: [Region]
  /// Bytes of RAM in all regions.
  public let size: UInt64
  /// Where devices report what they store.
  public let watch = MemoryWatch()
  /// The memfd behind all regions, owned by this object; negative if it is anonymous.
  public let fileDescriptor: Int32

  /// - Parameters:
  ///   - size: bytes, a multiple of `pageSize`, not zero.
  ///   - isShareable: behind it is a memfd, so that it can be mapped again; otherwise it is anonymous.
  /// - Throws: `GuestMemoryFailure` when the host refuses the mapping.
  public init(size: UInt64, isShareable: Bool = true) throws(GuestMemoryFailure) {
    guard size > 0, size % Self.pageSize == 0, let length = Int(exactly: size) else {
      throw .unusableSize(size)
    }
    let descriptor = isShareable ? try Self.makeFile(size: size, length: length) : -1
    let flags = isShareable ? CLINUX_MAP_SHARED_NORESERVE : CLINUX_MAP_ANONYMOUS_NORESERVE
    // Anonymous memory begins at a multiple of a large page, as the guest's addresses do: only then one can serve as the other.
    let mapping = GuardedMapping.map(
      length, alignment: isShareable ? Int(Self.pageSize) : Self.largePageSize, flags: flags, descriptor: descriptor)
    guard let mapping else {
      let error = Errno(rawValue: errno)
      if descriptor >= 0 { close(descriptor) }
      throw .hostCall("mmap", error, size)
    }
    // A hint: hosts without large pages refuse it.
    if !isShareable { madvise(mapping, length, CLINUX_MADV_HUGEPAGE) }
    // A core dump of the monitor must not carry gigabytes of guest memory.
    madvise(mapping, length, MADV_DONTDUMP)
    let low = min(size, Self.deviceHoleBase)
    var regions = [Region(base: GuestPhysicalAddress(0), size: low, fileOffset: 0, host: mapping)]
    if size > low {
      regions.append(
        Region(
          base: GuestPhysicalAddress(Self.highBase), size: size - low, fileOffset: low, host: mapping + Int(low)))
    }
    self.regions = regions
    self.size = size
    self.fileDescriptor = descriptor
  }

  deinit {
    GuardedMapping.unmap(regions[0].host, Int(size))
    if fileDescriptor >= 0 { close(fileDescriptor) }
  }

  /// Of the host's large pages, in bytes.
  private static let largePageSize = 2 << 20

  private static func makeFile(size: UInt64, length: Int) throws(GuestMemoryFailure) -> Int32 {
    let descriptor = memfd_create("trivisor-guest-memory", CLINUX_MFD_CLOEXEC)
    guard descriptor >= 0 else { throw .hostCall("memfd_create", Errno(rawValue: errno), size) }
    guard ftruncate(descriptor, length) == 0 else {
      let error = Errno(rawValue: errno)
      close(descriptor)
      throw .hostCall("ftruncate", error, size)
    }
    return descriptor
  }

  /// The host address of `count` bytes from `address`, or `nil` unless all of them are RAM of one region.
  ///
  /// The pointer is valid as long as this object is.
  public func host(_ address: GuestPhysicalAddress, count: UInt64) -> UnsafeMutableRawPointer? {
    for region in regions where address >= region.base {
      let offset = address.rawValue - region.base.rawValue
      if offset <= region.size, count <= region.size - offset {
        return region.host + Int(offset)
      }
    }
    return nil
  }

  private func checkedHost(
    _ address: GuestPhysicalAddress, count: UInt64
  ) throws(GuestMemoryFault) -> UnsafeMutableRawPointer {
    guard let pointer = host(address, count: count) else {
      throw GuestMemoryFault(address: address, count: count)
    }
    return pointer
  }

  /// A little-endian integer at any alignment.
  /// - Throws: `GuestMemoryFault` unless all of its bytes are RAM.
  public func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type = Value.self, at address: GuestPhysicalAddress
  ) throws(GuestMemoryFault) -> Value {
    let pointer = try checkedHost(address, count: UInt64(MemoryLayout<Value>.size))
    return Value(littleEndian: pointer.loadUnaligned(as: Value.self))
  }

  /// Stores `value` little-endian at any alignment.
  /// - Throws: `GuestMemoryFault` unless all of its bytes are RAM; nothing is stored then.
  public func write<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, at address: GuestPhysicalAddress
  ) throws(GuestMemoryFault) {
    let pointer = try checkedHost(address, count: UInt64(MemoryLayout<Value>.size))
    pointer.storeBytes(of: value.littleEndian, as: Value.self)
  }

  /// Copies `bytes` into RAM.
  /// - Throws: `GuestMemoryFault` unless all of the range is RAM of one region; nothing is stored then.
  public func copy(
    _ bytes: UnsafeRawBufferPointer, to address: GuestPhysicalAddress
  ) throws(GuestMemoryFault) {
    let pointer = try checkedHost(address, count: UInt64(bytes.count))
    guard let source = bytes.baseAddress else { return }
    pointer.copyMemory(from: source, byteCount: bytes.count)
  }

  /// Copies `bytes` into RAM.
  /// - Throws: `GuestMemoryFault` unless all of the range is RAM of one region; nothing is stored then.
  public func copy(_ bytes: [UInt8], to address: GuestPhysicalAddress) throws(GuestMemoryFault) {
    let pointer = try checkedHost(address, count: UInt64(bytes.count))
    bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      pointer.copyMemory(from: base, byteCount: source.count)
    }
  }

  /// A copy of `count` bytes from `address`.
  /// - Throws: `GuestMemoryFault` unless all of the range is RAM of one region.
  public func bytes(at address: GuestPhysicalAddress, count: Int) throws(GuestMemoryFault) -> [UInt8] {
    guard count >= 0 else { throw GuestMemoryFault(address: address, count: 0) }
    let pointer = try checkedHost(address, count: UInt64(count))
    return Array(UnsafeRawBufferPointer(start: pointer, count: count))
  }

  /// Fills `count` bytes with zero. Untouched memory is zero already and costs nothing: for memory that was used.
  /// - Throws: `GuestMemoryFault` unless all of the range is RAM of one region; nothing is stored then.
  public func clear(_ address: GuestPhysicalAddress, count: UInt64) throws(GuestMemoryFault) {
    let pointer = try checkedHost(address, count: count)
    memset(pointer, 0, Int(count))
  }
}

/// A range that is not wholly guest RAM: the guest's mistake or an image's, never a trap of ours.
public struct GuestMemoryFault: Error, Hashable, Sendable, CustomStringConvertible {
  /// Where the range begins.
  public let address: GuestPhysicalAddress
  /// Its length in bytes.
  public let count: UInt64

  /// One sentence for the user.
  public var description: String { "\(count) bytes at guest physical \(address) are not within the guest's memory" }
}

/// The host did not give the memory.
public enum GuestMemoryFailure: Error, Sendable, CustomStringConvertible {
  /// Zero, not a multiple of the page size, or more than this process can address.
  case unusableSize(UInt64)
  /// The call, its error, and the bytes asked for.
  case hostCall(String, Errno, UInt64)

  /// One sentence.
  public var description: String { sentence.description }

  /// What failed and what to do.
  public var sentence: Sentence {
    switch self {
    case .unusableSize(let size):
      "guest memory of \(size) bytes can't be made: give a multiple of \(GuestMemory.pageSize) bytes above zero"
    case .hostCall(let call, let error, let size):
      "guest memory of \(size) bytes can't be made: \(call) failed (\(error)); \(Self.remedy(error))"
    }
  }

  private static func remedy(_ error: Errno) -> Sentence {
    let known = HostRemedy.of(error)
    return known.isEmpty ? "lower \(Setting.memory), or raise the process's limits (ulimit -v, -n)" : known
  }
}
