import TrivisorVMM

/// A further command in a guest that runs one: its streams and its end. Once nobody holds this any more, the command's terminal
/// hangs up and its pipes break.
public final class CommandSession: ConsoleInput {
  private let channel: CommandChannel
  private let name: Int

  init(_ channel: CommandChannel, name: Int) {
    self.channel = channel
    self.name = name
  }

  deinit { channel.forget(name) }

  /// How far the command has come.
  public var progress: CommandChannel.Progress { channel.look(name) { $0.progress } ?? .failed("it is gone") }

  /// Calls `hook` once when the command has ended, was refused, or the channel has failed; at once if it has by now. Perhaps on a
  /// processor's thread, so it should only wake somebody.
  public func whenOver(_ hook: @escaping @Sendable () -> Void) {
    var isOver = false
    channel.change(name) { record in
      isOver = record.isOver
      if !isOver { record.whenOver = hook }
      return []
    }
    if isOver { hook() }
  }

  /// The terminal has another size now.
  public func resize(_ size: CommandOrder.Size) { channel.change(name, isUrgent: false) { $0.sizeFrames(size) } }

  /// The command gets a signal, by Linux' number.
  public func signal(_ number: UInt8) { channel.change(name, isUrgent: false) { $0.signalFrames(number) } }

  /// Nobody takes what the command says any more.
  public func hangUp() { channel.change(name) { $0.hangUpFrames() } }

  /// Returns when the sinks have delivered everything.
  public func finish() { channel.finish(name) }

  // MARK: Input

  /// Whether there is a command to read it.
  public var isListening: Bool { progress == .running }

  /// Whether the command has closed its standard input: then whatever comes is dropped.
  public var isUnwanted: Bool { channel.look(name) { $0.inputIsUnwanted } ?? true }

  /// See `ConsoleInput`.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    channel.change(name) { record in
      record.whenRoomForInput = hook
      return []
    }
  }

  /// Takes as much as the guest has room for.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int { channel.receive(name, bytes) }

  /// After the last byte that `receive` took, there is nothing more.
  public func endInput() {
    channel.change(name) { record in
      record.inputHasEnded = true
      return record.endFrames()
    }
  }
}
