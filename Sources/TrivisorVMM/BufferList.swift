import TrivisorCLinux
import Glibc

/// Pieces of guest memory, one after the other: what a driver gives for one direction of a request.
///
/// The pieces are an `iovec` array, so that preadv(2) and pwritev(2) move data without a copy between the guest and a
/// file. Each was checked to lie in guest memory; the guest can change what is *in* them at any time, so what is decided
/// on is copied out first. Consuming from the front changes the array, which belongs to the queue and is made anew for
/// each request.
public struct BufferList {
  private var pointer: UnsafeMutablePointer<iovec>
  private var count: Int
  /// Bytes in all pieces.
  public private(set) var byteCount: Int

  /// The pieces as the host's calls want them; at most as many as preadv(2) takes, if the queue sees to it.
  public var vectors: (pointer: UnsafePointer<iovec>, count: Int32) { (UnsafePointer(pointer), Int32(count)) }

  /// - Parameters:
  ///   - pointer: an array that stays as long as this value; it is changed.
  ///   - byteCount: the sum of the pieces' lengths.
  public init(pointer: UnsafeMutablePointer<iovec>, count: Int, byteCount: Int) {
    self.pointer = pointer
    self.count = count
    self.byteCount = byteCount
  }

  /// A copy of what is left.
  public var pieces: [iovec] { Array(UnsafeBufferPointer(start: pointer, count: count)) }

  /// Forgets the first `amount` bytes, or all if there are fewer.
  public mutating func removeFirst(_ amount: Int) {
    var rest = min(amount, byteCount)
    byteCount -= rest
    while count > 0, rest >= pointer.pointee.iov_len {
      rest -= pointer.pointee.iov_len
      pointer += 1
      count -= 1
    }
    guard count > 0, rest > 0 else { return }
    pointer.pointee.iov_base += rest
    pointer.pointee.iov_len -= rest
  }

  /// Copies bytes out of the guest and forgets them.
  /// - Returns: whether there were enough; if not, nothing is done.
  public mutating func read(into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard byteCount >= buffer.count else { return false }
    var done = 0
    while done < buffer.count, let source = pointer.pointee.iov_base {
      let amount = min(buffer.count - done, pointer.pointee.iov_len)
      UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).copyMemory(
        from: UnsafeRawBufferPointer(start: source, count: amount))
      removeFirst(amount)
      done += amount
    }
    return true
  }

  /// Copies bytes to the guest, as many as fit, and forgets the room.
  /// - Returns: how many.
  public mutating func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard let source = bytes.baseAddress else { return 0 }
    let total = min(bytes.count, byteCount)
    var done = 0
    while done < total, let target = pointer.pointee.iov_base {
      let amount = min(total - done, pointer.pointee.iov_len)
      target.copyMemory(from: source + done, byteCount: amount)
      removeFirst(amount)
      done += amount
    }
    return total
  }

  /// The last byte's place, no longer part of the list; `nil` if there is none.
  public mutating func removeLast() -> UnsafeMutableRawPointer? {
    guard count > 0, let base = pointer[count - 1].iov_base else { return nil }
    let length = pointer[count - 1].iov_len
    pointer[count - 1].iov_len = length - 1
    byteCount -= 1
    if length == 1 { count -= 1 }
    return base + (length - 1)
  }

  /// Forgets all but the first `amount` bytes.
  public mutating func keepFirst(_ amount: Int) {
    guard amount < byteCount else { return }
    byteCount = max(amount, 0)
    var rest = byteCount
    var kept = 0
    while rest > 0, kept < count {
      let length = pointer[kept].iov_len
      pointer[kept].iov_len = min(length, rest)
      rest -= pointer[kept].iov_len
      kept += 1
    }
    count = kept
  }

  /// Takes the room for the first `amount` bytes off the list, to be filled later with `fill`.
  /// - Returns: its pieces; `nil` if there is less, and then nothing is done.
  public mutating func takeFirst(_ amount: Int) -> [UnsafeMutableRawBufferPointer]? {
    guard byteCount >= amount else { return nil }
    var taken: [UnsafeMutableRawBufferPointer] = []
    var rest = amount
    while rest > 0, count > 0 {
      let length = min(rest, pointer.pointee.iov_len)
      taken.append(UnsafeMutableRawBufferPointer(start: pointer.pointee.iov_base, count: length))
      removeFirst(length)
      rest -= length
    }
    return taken
  }
}
