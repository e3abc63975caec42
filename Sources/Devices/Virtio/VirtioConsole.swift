// A virtio console with one port (virtio 1.2, 5.3).
//
// Queue 0 takes the guest's empty buffers, which input fills; queue 1 brings output. Input waits in a buffer of our own
// until the guest has room for it, and with the host when that is full.

import CLinux
import Glibc
import Synchronization
import VMM

/// A console.
public final class VirtioConsole: VirtioDevice, ConsoleInput {
  private static let sizeFeature = VirtioFeatures.bit(0)
  private static let receiveQueue = 0

  /// Columns and rows of the terminal behind it.
  public struct Size: Sendable, Equatable {
    /// Characters in a line.
    public var columns: UInt16
    /// Lines.
    public var rows: UInt16

    /// Takes both.
    public init(columns: UInt16, rows: UInt16) {
      self.columns = columns
      self.rows = rows
    }
  }

  private struct State: ~Copyable {
    var pending = InputBuffer()
    var isStarted = false
    /// The host has bytes that were not taken.
    var hasRefusedInput = false
    var whenRoomForInput: (@Sendable () -> Void)?
    var host: VirtioHost?

    /// The host's callback, if it is due.
    mutating func takeRoomHook() -> (@Sendable () -> Void)? {
      guard hasRefusedInput, isStarted, pending.count == 0 else { return nil }
      hasRefusedInput = false
      return whenRoomForInput
    }
  }

  private let sink: any SerialSink
  private let state = Mutex(State())
  /// Columns in the low half, rows in the high half.
  private let size: Atomic<UInt32>
  private let hasSize: Bool

  /// - Parameters:
  ///   - sink: gets what the guest prints.
  ///   - size: the terminal's, if it is one.
  public init(sink: any SerialSink, size: Size? = nil) {
    self.sink = sink
    self.size = Atomic(Self.encode(size ?? Size(columns: 0, rows: 0)))
    hasSize = size != nil
  }

  private static func encode(_ size: Size) -> UInt32 { UInt32(size.columns) | UInt32(size.rows) << 16 }

  /// Console.
  public let deviceID = VirtioDeviceID.console
  /// Receive and transmit.
  public let queueSizes: [UInt16] = [64, 64]
  /// The size, if there is one.
  public var features: VirtioFeatures { hasSize ? [Self.sizeFeature] : [] }

  /// Columns and rows.
  public func configuration(at offset: UInt64) -> UInt8 {
    offset < 4 ? UInt8(truncatingIfNeeded: size.load(ordering: .acquiring) >> UInt32(8 * offset)) : 0
  }

  /// The terminal's size changed; the guest is told if there was one from the beginning.
  public func resize(to newSize: Size) {
    guard hasSize else { return }
    size.store(Self.encode(newSize), ordering: .releasing)
    state.withLock { $0.host }?.configurationChanged()
  }

  /// Keeps the way to the driver.
  public func attach(to host: VirtioHost) { state.withLock { $0.host = host } }

  /// From now on input is taken.
  public func start(features: VirtioFeatures) {
    let hook = state.withLock { state in
      state.isStarted = true
      return state.takeRoomHook()
    }
    hook?()
  }

  /// What was typed for the driver that is gone is for the next one.
  public func reset() { state.withLock { $0.isStarted = false } }

  // MARK: Input

  /// Whether a driver is there.
  public var isListening: Bool { state.withLock { $0.isStarted } }

  /// See `ConsoleInput`.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.whenRoomForInput = hook }
  }

  /// See `ConsoleInput`.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let (taken, host) = state.withLock { state in
      let taken = state.isStarted ? state.pending.append(bytes) : 0
      state.hasRefusedInput = taken < bytes.count
      return (taken, state.host)
    }
    if taken > 0 { host?.wake() }
    return taken
  }

  // MARK: Queues

  /// Moves input to the guest or output from it.
  public func process(_ queue: VirtioQueue) {
    guard queue.index == Self.receiveQueue else {
      return queue.drain { chain in
        let (pieces, count) = chain.readable.vectors
        for piece in UnsafeBufferPointer(start: pieces, count: Int(count)) {
          sink.write(UnsafeRawBufferPointer(start: piece.iov_base, count: piece.iov_len))
        }
        return .completed(written: 0)
      }
    }
    queue.drain { chain in
      state.withLock { state in
        if state.pending.count == 0 { return .later }
        let written = state.pending.move(to: &chain.writable)
        return .completed(written: UInt32(written))
      }
    }
    state.withLock { $0.takeRoomHook() }?()
  }
}

/// Input on its way to the guest, first in, first out.
private struct InputBuffer: ~Copyable, @unchecked Sendable {
  // Unchecked: the storage is this value's alone.
  private static let capacity = 4096

  private let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 1)
  private var start = 0
  private(set) var count = 0

  deinit { storage.deallocate() }

  /// - Returns: how many bytes fit.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Int {
    let taken = min(bytes.count, Self.capacity - count)
    for index in 0..<taken { storage[(start + count + index) % Self.capacity] = bytes[index] }
    count += taken
    return taken
  }

  /// - Returns: how many bytes were moved.
  mutating func move(to buffers: inout BufferList) -> Int {
    var moved = 0
    while count > 0, buffers.byteCount > 0 {
      let contiguous = min(count, Self.capacity - start)
      let done = buffers.write(UnsafeRawBufferPointer(rebasing: storage[start..<(start + contiguous)]))
      start = (start + done) % Self.capacity
      count -= done
      moved += done
    }
    return moved
  }
}
