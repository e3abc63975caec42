import Glibc
import TrivisorVMM

/// Carries one of the command's output streams from the line to its sink, on a thread of its own, because a sink waits for
/// whoever reads it. It never holds more than its window, and tells how much has gone, which is new credit for the guest.
final class OutputPump: Sendable {
  /// Bytes that are under way.
  static let window = 64 << 10
  private static let chunkSize = 16 << 10

  private struct State {
    let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: OutputPump.window, alignment: 1)
    var head = 0
    var count = 0
    /// The thread, or whoever carries in its place, has bytes that the sink has not taken.
    var isCarrying = false
    var hasThread = false
    /// Nothing more comes, or nothing more is to go.
    var isOver = false
  }

  private let state = Monitor(State())
  private let sink: any SerialSink
  private let whenGone: @Sendable (Int) -> Void

  /// - Parameter whenGone: told how many bytes the sink has taken; with no lock held.
  init(_ sink: any SerialSink, whenGone: @escaping @Sendable (Int) -> Void) {
    self.sink = sink
    self.whenGone = whenGone
  }

  deinit { state.with { $0.storage.deallocate() } }

  /// Takes bytes without waiting.
  /// - Returns: whether there was room for them; there is for whoever keeps to the window.
  func append(_ bytes: [UInt8]) -> Bool {
    let (fits, startsThread) = state.with { state -> (Bool, Bool) in
      guard bytes.count <= Self.window - state.count else { return (false, false) }
      if state.isOver { return (true, false) }
      for (index, byte) in bytes.enumerated() {
        state.storage[(state.head + state.count + index) % Self.window] = byte
      }
      state.count += bytes.count
      defer { state.hasThread = true }
      return (true, !state.hasThread)
    }
    if startsThread, !DetachedThread.start({ self.run() }) { run(untilEmpty: true) }
    return fits
  }

  /// Returns when the sink has delivered everything.
  func finish() {
    state.with { if !$0.hasThread { $0.isOver = true } }
    state.wait { state in state.isOver || state.count == 0 && !state.isCarrying ? () : nil }
    state.with { $0.isOver = true }
    sink.finish()
  }

  /// Drops everything.
  func abandon() {
    state.with { state in
      state.isOver = true
      state.count = 0
    }
    sink.abandon()
  }

  /// Lets the sink go.
  func close() { sink.close() }

  /// - Parameter untilEmpty: the host has no thread for it: carries what there is.
  private func run(untilEmpty: Bool = false) {
    if !untilEmpty {
      var blocked = sigset_t()
      sigfillset(&blocked)
      pthread_sigmask(SIG_SETMASK, &blocked, nil)
    }
    var chunk: [UInt8] = []
    chunk.reserveCapacity(Self.chunkSize)
    while true {
      let goesOn = state.wait { state -> Bool? in
        if state.isOver { return false }
        guard state.count > 0 else { return untilEmpty ? false : nil }
        let count = min(state.count, Self.chunkSize)
        chunk.removeAll(keepingCapacity: true)
        for index in 0..<count { chunk.append(state.storage[(state.head + index) % Self.window]) }
        state.head = (state.head + count) % Self.window
        state.count -= count
        state.isCarrying = true
        return true
      }
      guard goesOn else { break }
      chunk.withUnsafeBytes { sink.write($0) }
      whenGone(chunk.count)
      state.with { $0.isCarrying = false }
    }
    if untilEmpty { state.with { $0.hasThread = false } }
  }
}
