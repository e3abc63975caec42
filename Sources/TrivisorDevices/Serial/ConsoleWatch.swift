import Synchronization
import TrivisorVMM

/// Passes a console's output on, and notices when it begins and Linux's last words in it.
///
/// A kernel that panics and then resets, as it is told to on test machines, looks like one that was rebooted; and where
/// there is a pvpanic port, it tells that the kernel gave up and not why. The console has it: "Kernel panic - not
/// syncing: WHY" (Linux, kernel/panic.c). A later "reboot: Restarting system" (kernel/reboot.c) takes that back: then it
/// was only quoted, by a program that printed an old log.
///
/// A kernel that is not told to reset spins for ever behind a last line, "---[ end Kernel panic - not syncing: WHY ]---".
/// That, too, may be quoted, but then the guest goes on: `lastWords` tells since when nothing followed.
public final class ConsoleWatch: SerialSink {
  private enum Phrase {
    static let panic = Array("Kernel panic - not syncing: ".utf8)
    static let restart = Array("reboot: Restarting system".utf8)
    static let end = Array("[ end Kernel panic - not syncing: ".utf8)
  }

  private static let closingMark = " ]---"

  /// More of a reason than this is not kept.
  private static let reasonLimit = 256

  /// What a kernel may print on its way down, in bytes: registers and call traces of all its processors.
  private static let obituaryLimit = 256 << 10

  private enum LastLine {
    case none
    /// In it, behind the phrase by which it is known.
    case begun
    /// It is over, and nothing followed.
    case finished(at: UInt64)
  }

  private struct State {
    /// How many bytes of each phrase were just seen.
    var panicMatched = 0
    var restartMatched = 0
    var endMatched = 0
    /// While the reason is being read.
    var isInReason = false
    var reason: [UInt8] = []
    var hasPanicked = false
    /// Bytes since then.
    var bytesSincePanic = 0
    /// Where the kernel is with its last line.
    var end = LastLine.none
    var firstOutput: UInt64?
  }

  private let sink: any SerialSink
  private let state = Mutex(State())

  /// - Parameter sink: gets all output unchanged.
  public init(_ sink: any SerialSink) { self.sink = sink }

  /// The panic that the guest reported and did not go on from.
  public var panic: KernelPanic? {
    state.withLock { state in
      guard state.hasPanicked else { return nil }
      var reason = String(decoding: state.reason, as: UTF8.self)
      // Where only the last line was seen.
      if reason.hasSuffix(Self.closingMark) { reason.removeLast(Self.closingMark.count) }
      return KernelPanic(reason: reason.isEmpty ? nil : reason)
    }
  }

  /// The same, unless so much followed that it was only quoted.
  public var lastingPanic: KernelPanic? {
    state.withLock { $0.bytesSincePanic } > Self.obituaryLimit ? nil : panic
  }

  /// When the kernel wrote the line behind which it does nothing any more, if nothing followed: on the host's
  /// CLOCK_MONOTONIC, in nanoseconds.
  public var lastWords: UInt64? {
    state.withLock { state in
      if case .finished(let time) = state.end { time } else { nil }
    }
  }

  /// When the first byte came, on the host's CLOCK_MONOTONIC, in nanoseconds.
  public var firstOutput: UInt64? { state.withLock { $0.firstOutput } }

  /// Looks at each byte once; the only allocation is the reason's.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    state.withLock { state in
      if state.firstOutput == nil { state.firstOutput = monotonicNanoseconds() }
      for byte in bytes { Self.look(at: byte, &state) }
    }
    sink.write(bytes)
  }

  /// As the sink.
  public func finish() { sink.finish() }
  /// As the sink.
  public func abandon() { sink.abandon() }
  /// As the sink.
  public func close() { sink.close() }

  private static func look(at byte: UInt8, _ state: inout State) {
    lookForEnd(at: byte, &state)
    if state.isInReason {
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") || state.reason.count == reasonLimit {
        state.isInReason = false
      } else {
        // What is no text would reach the terminal again with the sentence that tells the reason.
        state.reason.append((0x20...0x7e).contains(byte) ? byte : UInt8(ascii: "?"))
      }
      return
    }
    if advance(&state.panicMatched, by: byte, in: Phrase.panic) {
      // The first one counts: a kernel may panic again on its way down.
      guard !state.hasPanicked else { return }
      state.hasPanicked = true
      state.bytesSincePanic = 0
      state.isInReason = true
    }
    if advance(&state.restartMatched, by: byte, in: Phrase.restart) {
      state.hasPanicked = false
      state.end = .none
      state.reason = []
    }
  }

  private static func lookForEnd(at byte: UInt8, _ state: inout State) {
    if state.hasPanicked { state.bytesSincePanic &+= 1 }
    if advance(&state.endMatched, by: byte, in: Phrase.end) { state.end = .begun }
    switch state.end {
    case .none: break
    case .begun:
      if byte == UInt8(ascii: "\n") { state.end = .finished(at: monotonicNanoseconds()) }
    case .finished:
      // A terminal's line may end with LF CR as well.
      if byte != UInt8(ascii: "\r") { state.end = .none }
    }
  }

  /// After a mismatch only the byte at hand can begin the phrase anew: a kernel writes whole lines.
  private static func advance(_ matched: inout Int, by byte: UInt8, in phrase: [UInt8]) -> Bool {
    if byte == phrase[matched] {
      matched += 1
    } else {
      matched = byte == phrase[0] ? 1 : 0
    }
    guard matched == phrase.count else { return false }
    matched = 0
    return true
  }
}

extension ConsoleWatch: Restorable {
  /// How much of its phrases was just seen, and the panic.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var panicMatched: Int
    var restartMatched: Int
    var endMatched: Int
    var isInReason: Bool
    var reason: [UInt8]
    var hasPanicked: Bool
    var bytesSincePanic: Int
    /// Whether it is in its last line, and for how many nanoseconds nothing has followed that.
    var isInLastLine: Bool
    var silence: UInt64?
  }

  /// What was said so far; when it began is the host's.
  public func save() -> Saved {
    let now = monotonicNanoseconds()
    return state.withLock { state in
      var saved = Saved(
        panicMatched: state.panicMatched, restartMatched: state.restartMatched, endMatched: state.endMatched,
        isInReason: state.isInReason, reason: state.reason, hasPanicked: state.hasPanicked,
        bytesSincePanic: state.bytesSincePanic, isInLastLine: false)
      switch state.end {
      case .none: break
      case .begun: saved.isInLastLine = true
      case .finished(let time): saved.silence = now &- time
      }
      return saved
    }
  }

  /// - Throws: `RestoreFailure` for more than its phrases have, or a reason that is no text.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "console watch",
      requires: Phrase.panic.indices ~= saved.panicMatched && Phrase.restart.indices ~= saved.restartMatched
        && Phrase.end.indices ~= saved.endMatched && saved.bytesSincePanic >= 0
        && saved.reason.count <= Self.reasonLimit && saved.reason.allSatisfy { (0x20...0x7e).contains($0) },
      "what it has read is no part of what it looks for")
    let now = monotonicNanoseconds()
    state.withLock { state in
      state.panicMatched = saved.panicMatched
      state.restartMatched = saved.restartMatched
      state.endMatched = saved.endMatched
      state.bytesSincePanic = saved.bytesSincePanic
      state.end = saved.isInLastLine ? .begun : .none
      if let silence = saved.silence { state.end = .finished(at: now &- min(silence, now)) }
      state.isInReason = saved.isInReason
      state.reason = saved.reason
      state.hasPanicked = saved.hasPanicked
    }
  }
}
