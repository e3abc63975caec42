import TrivisorVMM
import Synchronization

/// Keeps the output in memory, up to a limit: for tests, and for comparing what guests said.
public final class MemorySink: SerialSink {
  // Unchecked: the storage is this value's alone, and the mutex guards the value.
  private struct Captured: ~Copyable, @unchecked Sendable {
    let storage: UnsafeMutableRawBufferPointer
    var count = 0
    var dropped = 0

    deinit { storage.deallocate() }
  }

  private let captured: Mutex<Captured>

  /// - Parameter limit: bytes kept from the beginning; what comes later is only counted. The memory is the host's only
  ///   once it is used.
  public init(limit: Int = 1 << 20) {
    captured = Mutex(
      Captured(storage: UnsafeMutableRawBufferPointer.allocate(byteCount: max(0, limit), alignment: 1)))
  }

  /// What was kept so far.
  public var bytes: [UInt8] {
    captured.withLock { Array($0.storage[..<$0.count]) }
  }

  /// As `bytes`, taken for UTF-8; what is not becomes U+FFFD.
  public var text: String { String(decoding: bytes, as: UTF8.self) }

  /// How many bytes came after the limit was reached.
  public var droppedCount: Int { captured.withLock { $0.dropped } }

  /// Keeps what fits.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    captured.withLock { captured in
      let kept = min(bytes.count, captured.storage.count - captured.count)
      let room = UnsafeMutableRawBufferPointer(rebasing: captured.storage[captured.count..<(captured.count + kept)])
      room.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<kept]))
      captured.count += kept
      captured.dropped += bytes.count - kept
    }
  }

  /// Nothing is ever outstanding.
  public func finish() {}

  /// Nothing ever blocks.
  public func abandon() {}
}
