// A disk's content on the host: a raw file or a block device.
//
// Data goes through the host's page cache, so a write is safe from the death of this process at once, and from the death
// of the host after `flush`. A lock keeps a second machine from writing to the same image. Where changes are kept apart
// (`DiskChanges`), the image is only read, and nothing has to be durable: what the guest writes ends with the run.
//
// A flush that fails is never made good by a later one: the host's kernel tells of lost writes once, and then takes the
// pages for clean. So every flush from then on fails.

import TrivisorCLinux
import Glibc
import Synchronization
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
  /// What a Xen domain calls it; by its position if `nil`.
  public let domainName: DomainDiskName?
  let descriptor: Int32
  /// What the guest has written, if it is not the image's.
  let changes: DiskChanges?
  private let hasLostWrites = Atomic<Bool>(false)

  /// Opens and locks an image: shared if nothing is written to it, else exclusively.
  /// - Parameter changes: take what the guest writes, so that the image is only read.
  /// - Parameter domainName: what a Xen domain calls the disk.
  /// - Throws: `DeviceFailure` if it can't be opened, is neither file nor block device, is in use, or is no whole number
  ///   of sectors.
  public init(
    path: FilePath, isReadOnly: Bool, changes: DiskChanges? = nil, domainName: DomainDiskName? = nil
  ) throws(DeviceFailure) {
    let readsOnly = isReadOnly || changes != nil
    // A block device that the host has mounted is not to be written to (open(2), O_EXCL).
    var status = stat()
    let isBlockDevice = stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFBLK
    let access = readsOnly ? O_RDONLY : O_RDWR | (isBlockDevice ? O_EXCL : 0)
    var opened = open(path.string, access | O_CLOEXEC | O_NONBLOCK)
    while opened < 0, errno == EINTR { opened = open(path.string, access | O_CLOEXEC | O_NONBLOCK) }
    guard opened >= 0 else {
      let error = Errno(rawValue: errno)
      throw DeviceFailure(call: "open \(path)", error, remedy: Self.remedy(error, isReadOnly: readsOnly))
    }
    do throws(DeviceFailure) {
      sectorCount = try Self.sectors(opened, path: path)
      guard flock(opened, (readsOnly ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 || errno != EWOULDBLOCK else {
        throw DeviceFailure(
          call: "lock \(path)", reason: "another program has the image open",
          remedy: "end that program, or copy the image")
      }
      try changes?.adopt(sectorCount: sectorCount)
    } catch {
      close(opened)
      throw error
    }
    descriptor = opened
    self.isReadOnly = isReadOnly
    self.changes = changes
    self.domainName = domainName
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
    guard contains(first, byteCount: UInt64(buffers.byteCount)) else { return .invalidArgument }
    guard let changes else { return transfer(first, &buffers) { preadv(descriptor, $0, $1, $2) } }
    var sector = first
    while buffers.byteCount > 0 {
      let rest = UInt64(buffers.byteCount / Self.sectorSize)
      let (count, isChanged) = changes.run(from: sector, limit: rest)
      let source = isChanged ? changes.descriptor : descriptor
      if count == rest { return transfer(sector, &buffers) { preadv(source, $0, $1, $2) } }
      if let error = copy(source, sector, count, &buffers) { return error }
      sector += count
    }
    return nil
  }

  /// Stores all of `buffers` from sector `first` on.
  func write(_ first: UInt64, from buffers: inout BufferList) -> Errno? {
    let byteCount = buffers.byteCount
    guard contains(first, byteCount: UInt64(byteCount)) else { return .invalidArgument }
    let target = changes?.descriptor ?? descriptor
    let error = transfer(first, &buffers) { pwritev(target, $0, $1, $2) }
    if error == nil { changes?.note(first, count: UInt64(byteCount / Self.sectorSize)) }
    return error
  }

  /// A part of what `buffers` have room for: by way of memory of our own, since a part of a list can't be handed on.
  private func copy(_ source: Int32, _ first: UInt64, _ count: UInt64, _ buffers: inout BufferList) -> Errno? {
    withUnsafeTemporaryAllocation(byteCount: Self.pieceSize, alignment: Self.sectorSize) { room in
      var sector = first
      while sector < first + count {
        let part = min(first + count - sector, UInt64(Self.pieceSize / Self.sectorSize))
        let bytes = UnsafeMutableRawBufferPointer(rebasing: room[..<(Int(part) * Self.sectorSize)])
        if let error = Self.readAll(source, sector, into: bytes) { return error }
        _ = buffers.write(UnsafeRawBufferPointer(bytes))
        sector += part
      }
      return nil
    }
  }

  private static let pieceSize = 1 << 16

  /// Fills all of `bytes` from a file, from a sector on.
  static func readAll(_ file: Int32, _ sector: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Errno? {
    moveAll(sector, bytes.count) { done, count, offset in
      pread(file, bytes.baseAddress.map { $0 + done }, count, offset)
    }
  }

  /// Stores all of `bytes` to a file, from a sector on.
  static func writeAll(_ file: Int32, _ sector: UInt64, from bytes: UnsafeRawBufferPointer) -> Errno? {
    moveAll(sector, bytes.count) { done, count, offset in
      pwrite(file, bytes.baseAddress.map { $0 + done }, count, offset)
    }
  }

  private static func moveAll(
    _ sector: UInt64, _ count: Int, _ call: (_ done: Int, _ count: Int, _ offset: off_t) -> Int
  ) -> Errno? {
    var done = 0
    while done < count {
      let moved = call(done, count - done, off_t(sector) * off_t(sectorSize) + off_t(done))
      if moved < 0 {
        let error = Errno(rawValue: errno)
        if error == .interrupted { continue }
        return error
      }
      // The file became shorter behind our back.
      if moved == 0 { return .ioError }
      done += moved
    }
    return nil
  }

  private func transfer(
    _ first: UInt64, _ buffers: inout BufferList, _ call: (UnsafePointer<iovec>, Int32, off_t) -> Int
  ) -> Errno? {
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
    if changes != nil { return nil }
    if hasLostWrites.load(ordering: .acquiring) { return .ioError }
    while fdatasync(descriptor) != 0 {
      let error = Errno(rawValue: errno)
      // A special file that can't be synced holds nothing back either.
      if error == .invalidArgument { return nil }
      if error != .interrupted {
        hasLostWrites.store(true, ordering: .releasing)
        return error
      }
    }
    return nil
  }

  /// Says that the content of these sectors is not needed any more.
  func discard(_ first: UInt64, count: UInt64) -> Errno? {
    // Apart from the image, what a sector holds afterwards must not come from it again: zeros.
    if changes != nil { return clear(first, count: count, frees: true) }
    let error = allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, count)
    // Only a hint: a host that can't use it loses nothing.
    return error == .notSupported ? nil : error
  }

  /// Makes these sectors read as zero; with `frees`, their space may be given back.
  func clear(_ first: UInt64, count: UInt64, frees: Bool) -> Errno? {
    guard contains(first, byteCount: 0), count <= sectorCount - first else { return .invalidArgument }
    let mode = (frees ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE
    var error = allocate(mode, first, count)
    if error == .notSupported { error = storeZeros(first, count: count) }
    if error == nil { changes?.note(first, count: count) }
    return error
  }

  private func allocate(_ mode: Int32, _ first: UInt64, _ count: UInt64) -> Errno? {
    guard contains(first, byteCount: 0), count <= sectorCount - first else { return .invalidArgument }
    guard count > 0 else { return nil }
    let size = off_t(Self.sectorSize)
    while fallocate(changes?.descriptor ?? descriptor, mode, off_t(first) * size, off_t(count) * size) != 0 {
      let error = Errno(rawValue: errno)
      if error != .interrupted { return error }
    }
    return nil
  }

  private func storeZeros(_ first: UInt64, count: UInt64) -> Errno? {
    withUnsafeTemporaryAllocation(byteCount: Self.pieceSize, alignment: 16) { zeros in
      zeros.initializeMemory(as: UInt8.self, repeating: 0)
      var sector = first
      while sector < first + count {
        let part = min(first + count - sector, UInt64(Self.pieceSize / Self.sectorSize))
        let bytes = UnsafeRawBufferPointer(rebasing: zeros[..<(Int(part) * Self.sectorSize)])
        if let error = Self.writeAll(changes?.descriptor ?? descriptor, sector, from: bytes) { return error }
        sector += part
      }
      return nil
    }
  }
}
