import TrivisorDeviceFuzz
import Testing
import TrivisorVMM

/// A piece of a request.
struct RequestPiece {
  var address: UInt64
  var length: UInt32
  var isWritable = false
}

/// The driver's side of a device's queues, whatever its transport: it keeps to the rules unless told not to.
protocol RingDriver: AnyObject, Sendable {
  var memory: GuestMemory { get }
  /// Lets a device without a thread work.
  func run(_ queue: Int)
}

extension RingDriver {
  func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at address: UInt64) {
    do { try memory.write(value, at: GuestPhysicalAddress(address)) } catch { Issue.record("\(error)") }
  }

  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, at address: UInt64) -> Value {
    do { return try memory.read(at: GuestPhysicalAddress(address)) } catch {
      Issue.record("\(error)")
      return 0
    }
  }

  func store(_ bytes: [UInt8], at address: UInt64) {
    do { try memory.copy(bytes, to: GuestPhysicalAddress(address)) } catch { Issue.record("\(error)") }
  }

  func bytes(at address: UInt64, count: Int) -> [UInt8] {
    do { return try memory.bytes(at: GuestPhysicalAddress(address), count: count) } catch {
      Issue.record("\(error)")
      return []
    }
  }

  /// A descriptor, with any content.
  func describe(
    _ queue: RingPlace, _ index: Int, address: UInt64, length: UInt32, flags: UInt16, next: UInt16 = 0
  ) {
    describe(at: queue.descriptors + 16 * UInt64(index), address: address, length: length, flags: flags, next: next)
  }

  func describe(at place: UInt64, address: UInt64, length: UInt32, flags: UInt16, next: UInt16 = 0) {
    store(address, at: place)
    store(length, at: place + 8)
    store(flags, at: place + 12)
    store(next, at: place + 14)
  }

  /// Descriptors from `first` on, chained.
  func describe(_ queue: RingPlace, _ pieces: [RequestPiece], from first: Int = 0) {
    for (offset, piece) in pieces.enumerated() {
      let isLast = offset == pieces.count - 1
      describe(
        queue, first + offset, address: piece.address, length: piece.length,
        flags: (piece.isWritable ? 2 : 0) | (isLast ? 0 : 1), next: isLast ? 0 : UInt16(first + offset + 1))
    }
  }

  /// Publishes one head more.
  func publish(_ queue: RingPlace, head: UInt16) {
    let index = load(UInt16.self, at: queue.available + 2)
    store(head, at: queue.available + 4 + 2 * UInt64(index % queue.size))
    store(index &+ 1, at: queue.available + 2)
  }

  func usedIndex(_ queue: RingPlace) -> UInt16 { load(UInt16.self, at: queue.used + 2) }

  func usedEntry(_ queue: RingPlace, _ index: UInt16) -> (head: UInt32, length: UInt32) {
    let entry = queue.used + 4 + 8 * UInt64(index % queue.size)
    return (load(UInt32.self, at: entry), load(UInt32.self, at: entry + 4))
  }

  /// Puts a request from descriptor 0 on, lets the device work, and gives the length it says that it wrote.
  func request(_ queue: RingPlace, _ pieces: [RequestPiece]) -> UInt32? {
    let before = usedIndex(queue)
    describe(queue, pieces)
    publish(queue, head: 0)
    run(queue.index)
    guard usedIndex(queue) == before &+ 1 else { return nil }
    return usedEntry(queue, before).length
  }
}
