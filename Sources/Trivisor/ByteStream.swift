// What a guest writes, as it comes.
//
//     a processor's thread ──write──▶ at most 64 KiB ──next()──▶ a task
//                                        └─ full: the processor waits, as at a pipe
//
// A stream that nobody has begun to read is a pipe that nobody reads: the guest is held up when it is full. One whose
// reader is gone drops everything.

import Synchronization
import TrivisorVMM

/// Bytes of a guest's console or of its command, in the pieces in which they came. For one reader: a guest that is
/// more than 64 KiB ahead of it waits, and once it is gone, whatever comes is dropped.
public final class ByteStream: AsyncSequence, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public typealias Element = [UInt8]

  private static let capacity = 64 << 10

  private struct State {
    var bytes: [UInt8] = []
    /// Nothing more comes.
    var isOver = false
    /// What is left of a run that is over: nobody waits for room any more.
    var isUnlimited = false
    /// Whoever writes is not to wait: the run is being broken off, or nobody reads any more.
    var isDropping = false
    var readers: [(id: UInt64, continuation: CheckedContinuation<[UInt8]?, Never>)] = []
    var nextReader: UInt64 = 0
  }

  private let state = Monitor(State())

  /// Nothing yet. For one run of one machine.
  public init() {}

  /// The one reader.
  public func makeAsyncIterator() -> Iterator { Iterator(Reader(self)) }

  /// Text line by line, without the ends of the lines; what is no UTF-8 becomes U+FFFD.
  public var lines: Lines { Lines(stream: self) }

  /// Everything to the end, as text.
  public func text() async -> String {
    var all: [UInt8] = []
    for await bytes in self { all += bytes }
    return String(decoding: all, as: UTF8.self)
  }

  /// One reader; when it goes, whatever comes is dropped.
  public struct Iterator: AsyncIteratorProtocol {
    private let reader: Reader

    fileprivate init(_ reader: Reader) { self.reader = reader }

    /// What has come; waits if nothing has. `nil` at the end, and when the task is cancelled.
    public mutating func next() async -> [UInt8]? { await reader.stream.next() }

    /// As `next()`.
    public mutating func next(isolation actor: isolated (any Actor)?) async -> [UInt8]? { await reader.stream.next() }
  }

  fileprivate final class Reader: Sendable {
    let stream: ByteStream
    init(_ stream: ByteStream) { self.stream = stream }
    deinit { stream.drop() }
  }

  private func next() async -> [UInt8]? {
    let id = state.with { state in
      state.nextReader += 1
      return state.nextReader
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isCancelled = Task.isCancelled
        let answer: [UInt8]?? = state.with { state in
          if !state.bytes.isEmpty {
            defer { state.bytes = [] }
            return .some(.some(state.bytes))
          }
          if state.isOver || isCancelled { return .some(.none) }
          state.readers.append((id, continuation))
          return .none
        }
        if case .some(let bytes) = answer { continuation.resume(returning: bytes) }
      }
    } onCancel: {
      let reader = state.with { state -> CheckedContinuation<[UInt8]?, Never>? in
        guard let index = state.readers.firstIndex(where: { $0.id == id }) else { return nil }
        return state.readers.remove(at: index).continuation
      }
      reader?.resume(returning: nil)
    }
  }

  private func drop() {
    state.with { state in
      state.isDropping = true
      state.bytes = []
    }
  }

  fileprivate func append(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while !rest.isEmpty {
      let (taken, reader, piece) = state.wait {
        state -> (Int, CheckedContinuation<[UInt8]?, Never>?, [UInt8])? in
        if state.isDropping || state.isOver { return (rest.count, nil, []) }
        let taken = state.isUnlimited ? rest.count : Swift.min(rest.count, Self.capacity - state.bytes.count)
        guard taken > 0 else { return nil }
        state.bytes.append(contentsOf: rest[..<taken])
        guard !state.readers.isEmpty else { return (taken, nil, []) }
        let reader = state.readers.removeFirst().continuation
        defer { state.bytes = [] }
        return (taken, reader, state.bytes)
      }
      reader?.resume(returning: piece)
      rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
    }
  }

  fileprivate func breakOff() { state.with { $0.isDropping = true } }

  /// The worker that writes is gone: what it left in a pipe is taken at once.
  func takeEverything() { state.with { $0.isUnlimited = true } }

  /// The run is over: what has come can still be read.
  func finish() {
    let readers = state.with { state in
      state.isOver = true
      defer { state.readers = [] }
      return state.readers
    }
    for reader in readers { reader.continuation.resume(returning: nil) }
  }

  /// The end that a machine writes to.
  var sink: any SerialSink { Sink(self) }

  private final class Sink: SerialSink {
    private let stream: ByteStream
    init(_ stream: ByteStream) { self.stream = stream }
    func write(_ bytes: UnsafeRawBufferPointer) { stream.append(bytes) }
    /// What was taken can be read after the run: nobody waits for the reader.
    func finish() {}
    func abandon() { stream.breakOff() }
    func close() { stream.finish() }
  }

  /// A stream's text line by line.
  public struct Lines: AsyncSequence, Sendable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public typealias Element = String

    let stream: ByteStream

    /// The one reader.
    public func makeAsyncIterator() -> Iterator { Iterator(bytes: stream.makeAsyncIterator()) }

    /// One reader.
    public struct Iterator: AsyncIteratorProtocol {
      var bytes: ByteStream.Iterator
      var rest: [UInt8] = []
      var isOver = false

      /// The next line; what stands behind the last line's end, too, if anything does.
      public mutating func next() async -> String? { await next(isolation: nil) }

      /// As `next()`.
      public mutating func next(isolation actor: isolated (any Actor)?) async -> String? {
        while true {
          if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            let line = rest[..<end].last == UInt8(ascii: "\r") ? rest[..<(end - 1)] : rest[..<end]
            let text = String(decoding: line, as: UTF8.self)
            rest.removeSubrange(...end)
            return text
          }
          if isOver {
            guard !rest.isEmpty else { return nil }
            defer { rest = [] }
            return String(decoding: rest, as: UTF8.self)
          }
          if let piece = await bytes.next(isolation: actor) { rest += piece } else { isOver = true }
        }
      }
    }
  }
}
