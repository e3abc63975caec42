import Glibc
import TrivisorVMM

extension DiskImage: BlockStorage {
  /// Fills all of `bytes` from a sector on.
  public func read(_ sector: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    move(sector, bytes.count) { file, done, count, offset in
      pread(file, bytes.baseAddress.map { $0 + done }, count, offset)
    }
  }

  /// Stores all of `bytes` from a sector on.
  public func write(_ sector: UInt64, from bytes: UnsafeRawBufferPointer) -> Bool {
    guard !isReadOnly else { return false }
    return move(sector, bytes.count) { file, done, count, offset in
      pwrite(file, bytes.baseAddress.map { $0 + done }, count, offset)
    }
  }

  /// Makes everything written durable.
  public func synchronize() -> Bool { flush() == nil }

  /// Says that sectors are not needed any more.
  public func forget(_ sector: UInt64, count: UInt64) -> Bool { !isReadOnly && discard(sector, count: count) == nil }

  private func move(_ sector: UInt64, _ count: Int, _ call: (Int32, Int, Int, off_t) -> Int) -> Bool {
    guard contains(sector, byteCount: UInt64(count)) else { return false }
    var done = 0
    while done < count {
      let moved = call(descriptor, done, count - done, off_t(sector) * off_t(Self.sectorSize) + off_t(done))
      if moved < 0, errno == EINTR { continue }
      // An error, or the file became shorter behind our back.
      guard moved > 0 else { return false }
      done += moved
    }
    return true
  }
}
