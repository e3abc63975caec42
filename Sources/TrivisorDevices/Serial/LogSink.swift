import Synchronization
import TrivisorVMM

/// Keeps the end of a kernel's log, and passes all of it on to whoever wants it.
public final class LogSink: SerialSink {
  private let sinks: [any SerialSink]
  private let limit: Int
  private let kept = Mutex<[UInt8]>([])

  /// - Parameters:
  ///   - limit: how many bytes of the end are kept.
  ///   - sinks: get everything unchanged.
  public init(limit: Int, sinks: [any SerialSink] = []) {
    self.limit = limit
    self.sinks = sinks
  }

  /// The last lines, at most `count`, without what is no text.
  public func lastLines(_ count: Int) -> [String] {
    let bytes = kept.withLock { Array($0.suffix(limit)) }
    let lines = bytes.split(whereSeparator: { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") })
    return lines.suffix(count).map { line in
      // It is the guest's, and goes to a terminal.
      String(decoding: line.map { (0x20...0x7e).contains($0) || $0 == 0x09 ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }
  }

  /// Keeps and passes on.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    kept.withLock { kept in
      kept.append(contentsOf: bytes)
      if kept.count > 2 * limit { kept.removeFirst(kept.count - limit) }
    }
    for sink in sinks { sink.write(bytes) }
  }

  /// As the sinks.
  public func finish() {
    for sink in sinks { sink.finish() }
  }

  /// As the sinks.
  public func abandon() {
    for sink in sinks { sink.abandon() }
  }

  /// As the sinks.
  public func close() {
    for sink in sinks { sink.close() }
  }
}
