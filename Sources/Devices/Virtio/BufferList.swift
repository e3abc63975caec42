import CLinux
import Glibc

/// Pieces of guest memory, one after the other: what a driver gives for one direction of a request.
///
/// The pieces are an `iovec` array, so that preadv(2) and pwritev(2) move data without a copy between the guest and a
/// file. Each was checked to lie in guest memory; the guest can change what is *in* them at any time, so what is decided
/// on is copied out first. Consuming from the front changes the array, which belongs to the queue and is made anew for
/// each request.
struct BufferList {
  private(set) var pointer: UnsafeMutablePointer<iovec>
  private(set) var count: Int
  /// Bytes in all pieces.
  private(set) var byteCount: Int

  /// The pieces as the host's calls want them; at most `SplitRing.maximumChainLength`, which is IOV_MAX.
  var vectors: (pointer: UnsafePointer<iovec>, count: Int32) { (UnsafePointer(pointer), Int32(count)) }

  init(pointer: UnsafeMutablePointer<iovec>, count: Int, byteCount: Int) {
    self.pointer = pointer
    self.count = count
    self.byteCount = byteCount
  }

  /// A copy of what is left.
  var pieces: [iovec] { Array(UnsafeBufferPointer(start: pointer, count: count)) }

  /// Forgets the first `amount` bytes, or all if there are fewer.
  mutating func removeFirst(_ amount: Int) {
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
  mutating func read(into buffer: UnsafeMutableRawBufferPointer) -> Bool {
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
  mutating func write(_ bytes: UnsafeRawBufferPointer) -> Int {
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
  mutating func removeLast() -> UnsafeMutableRawPointer? {
    guard count > 0, let base = pointer[count - 1].iov_base else { return nil }
    let length = pointer[count - 1].iov_len
    pointer[count - 1].iov_len = length - 1
    byteCount -= 1
    if length == 1 { count -= 1 }
    return base + (length - 1)
  }
}
