import Glibc
import TrivisorVMM

extension DiskImage: BlockStorage {
  /// Fills all of `bytes` from a sector on.
  public func read(_ sector: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return contains(sector, byteCount: 0) }
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: 1) { piece in
      piece.initializeElement(at: 0, to: iovec(iov_base: base, iov_len: bytes.count))
      guard let pointer = piece.baseAddress else { return false }
      var list = BufferList(pointer: pointer, count: 1, byteCount: bytes.count)
      return read(sector, into: &list) == nil
    }
  }

  /// Stores all of `bytes` from a sector on.
  public func write(_ sector: UInt64, from bytes: UnsafeRawBufferPointer) -> Bool {
    guard !isReadOnly, contains(sector, byteCount: UInt64(bytes.count)),
      Self.writeAll(changes?.descriptor ?? descriptor, sector, from: bytes) == nil
    else { return false }
    changes?.note(sector, count: UInt64(bytes.count / Self.sectorSize))
    return true
  }

  /// Makes everything written durable.
  public func synchronize() -> Bool { flush() == nil }

  /// Says that sectors are not needed any more.
  public func forget(_ sector: UInt64, count: UInt64) -> Bool { !isReadOnly && discard(sector, count: count) == nil }
}
