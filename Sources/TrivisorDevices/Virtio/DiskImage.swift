// A disk's content on the host: a raw file or a block device.
//
// Data goes through the host's page cache, so a write is safe from the death of this process at once, and from the death
// of the host after `flush`. A lock keeps a second machine from writing to the same image.

import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// A raw disk image or a block device of the host, open for a guest.
public final class DiskImage: Sendable {
  /// The unit of addresses and sizes, in bytes.
  public static let sectorSize = 512

  /// Whether writing is refused.
  public let isReadOnly: Bool
  /// How large it is.
  public let sectorCount: UInt64
  let descriptor: Int32

  /// Opens and locks an image: shared if read-only, else exclusively.
  /// - Throws: `DeviceFailure` if it can't be opened, is neither file nor block device, is in use, or is no whole number
  ///   of sectors.
  public init(path: FilePath, isReadOnly: Bool) throws(DeviceFailure) {
    // A block device that the host has mounted is not to be written to (open(2), O_EXCL).
    var status = stat()
    let isBlockDevice = stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFBLK
    let access = isReadOnly ? O_RDONLY : O_RDWR | (isBlockDevice ? O_EXCL : 0)
    var opened = open(path.string, access | O_CLOEXEC | O_NONBLOCK)
    while opened < 0, errno == EINTR { opened = open(path.string, access | O_CLOEXEC | O_NONBLOCK) }
    guard opened >= 0 else {
      let error = Errno(rawValue: errno)
      throw DeviceFailure(call: "open \(path)", error, remedy: Self.remedy(error, isReadOnly: isReadOnly))
    }
    do throws(DeviceFailure) {
      sectorCount = try Self.sectors(opened, path: path)
      guard flock(opened, (isReadOnly ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 || errno != EWOULDBLOCK else {
        throw DeviceFailure(
          call: "lock \(path)", reason: "another program has the image open",
          remedy: "end that program, or copy the image")
      }
    } catch {
      close(opened)
      throw error
    }
    descriptor = opened
    self.isReadOnly = isReadOnly
  }

  deinit { close(descriptor) }

  private static func remedy(_ error: Errno, isReadOnly: Bool) -> String {
    switch error {
    case .permissionDenied, .readOnlyFileSystem, .notPermitted:
      isReadOnly ? "give yourself read permission" : "give yourself write permission, or attach the disk read-only"
    case .resourceBusy: "unmount it first, or attach the disk read-only"
    case .noSuchFileOrDirectory: "check the path"
    default: ""
    }
  }

  private static func sectors(_ descriptor: Int32, path: FilePath) throws(DeviceFailure) -> UInt64 {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw DeviceFailure(call: "fstat \(path)", Errno(rawValue: errno))
    }
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG || kind == S_IFBLK else {
      throw DeviceFailure(
        call: "open \(path)", reason: "it is neither a file nor a block device", remedy: "give a raw disk image")
    }
    let size = lseek(descriptor, 0, SEEK_END)
    guard size >= 0 else { throw DeviceFailure(call: "lseek \(path)", Errno(rawValue: errno)) }
    guard size > 0 else {
      throw DeviceFailure(call: "open \(path)", reason: "it is empty", remedy: "give it a size with truncate -s 1G")
    }
    guard size % sectorSize == 0 else {
      throw DeviceFailure(
        call: "open \(path)", reason: "its \(size) bytes are not a whole number of sectors of \(sectorSize)",
        remedy: "extend it with truncate -s %\(sectorSize), or convert it to a raw image")
    }
    return UInt64(size / sectorSize)
  }

  // MARK: Requests

  /// Whether sectors `first` and so on, `byteCount` bytes of them, exist.
  func contains(_ first: UInt64, byteCount: UInt64) -> Bool {
    byteCount % UInt64(Self.sectorSize) == 0 && first <= sectorCount
      && byteCount / UInt64(Self.sectorSize) <= sectorCount - first
  }

  /// Fills all of `buffers` from sector `first` on.
  func read(_ first: UInt64, into buffers: inout BufferList) -> Errno? {
    transfer(first, &buffers) { preadv(descriptor, $0, $1, $2) }
  }

  /// Stores all of `buffers` from sector `first` on.
  func write(_ first: UInt64, from buffers: inout BufferList) -> Errno? {
    transfer(first, &buffers) { pwritev(descriptor, $0, $1, $2) }
  }

  private func transfer(
    _ first: UInt64, _ buffers: inout BufferList, _ call: (UnsafePointer<iovec>, Int32, off_t) -> Int
  ) -> Errno? {
    guard contains(first, byteCount: UInt64(buffers.byteCount)) else { return .invalidArgument }
    var offset = off_t(first) * off_t(Self.sectorSize)
    while buffers.byteCount > 0 {
      let (pointer, count) = buffers.vectors
      let moved = call(pointer, count, offset)
      if moved < 0 {
        let error = Errno(rawValue: errno)
        if error == .interrupted { continue }
        return error
      }
      // The file became shorter behind our back.
      if moved == 0 { return .ioError }
      buffers.removeFirst(moved)
      offset += off_t(moved)
    }
    return nil
  }

  /// Makes everything written durable.
  func flush() -> Errno? {
    while fdatasync(descriptor) != 0 {
      let error = Errno(rawValue: errno)
      // A special file that can't be synced holds nothing back either.
      if error == .invalidArgument { return nil }
      if error != .interrupted { return error }
    }
    return nil
  }

  /// Says that the content of these sectors is not needed any more.
  func discard(_ first: UInt64, count: UInt64) -> Errno? {
    let error = allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, count)
    // Only a hint: a host that can't use it loses nothing.
    return error == .notSupported ? nil : error
  }

  /// Makes these sectors read as zero; with `frees`, their space may be given back.
  func clear(_ first: UInt64, count: UInt64, frees: Bool) -> Errno? {
    guard contains(first, byteCount: 0), count <= sectorCount - first else { return .invalidArgument }
    let mode = (frees ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE
    let error = allocate(mode, first, count)
    return error == .notSupported ? storeZeros(first, count: count) : error
  }

  private func allocate(_ mode: Int32, _ first: UInt64, _ count: UInt64) -> Errno? {
    guard contains(first, byteCount: 0), count <= sectorCount - first else { return .invalidArgument }
    guard count > 0 else { return nil }
    let size = off_t(Self.sectorSize)
    while fallocate(descriptor, mode, off_t(first) * size, off_t(count) * size) != 0 {
      let error = Errno(rawValue: errno)
      if error != .interrupted { return error }
    }
    return nil
  }

  private func storeZeros(_ first: UInt64, count: UInt64) -> Errno? {
    withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 16) { zeros in
      zeros.initializeMemory(as: UInt8.self, repeating: 0)
      var offset = off_t(first) * off_t(Self.sectorSize)
      let end = offset + off_t(count) * off_t(Self.sectorSize)
      while offset < end {
        let stored = pwrite(descriptor, zeros.baseAddress, min(zeros.count, Int(end - offset)), offset)
        if stored < 0 {
          let error = Errno(rawValue: errno)
          if error == .interrupted { continue }
          return error
        }
        offset += off_t(stored)
      }
      return nil
    }
  }
}
