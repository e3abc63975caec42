/// A device that takes what a person or a pipe types: a serial port, a virtio console.
///
/// Nothing is lost on the way: what does not fit, or would find no reader, stays with the host.
public protocol ConsoleInput: AnyObject, Sendable {
  /// Whether the guest can be said to read what is typed.
  var isListening: Bool { get }

  /// Hands the guest input, from any thread.
  /// - Returns: how many bytes were taken, from the first on. When fewer than offered, `whenRoomForInput` follows.
  func receive(_ bytes: UnsafeRawBufferPointer) -> Int

  /// Calls `hook` each time when bytes will be taken again after `receive` took fewer than offered. On a thread of the
  /// machine, so it should only wake somebody.
  func whenRoomForInput(_ hook: @escaping @Sendable () -> Void)

  /// There is no more input than what was taken so far. A line can't tell its other end.
  func endInput()

  /// Whether the guest has said that it reads no more input.
  var isUnwanted: Bool { get }
}

extension ConsoleInput {
  /// Nothing is told.
  public func endInput() {}

  /// Unknown to a line.
  public var isUnwanted: Bool { false }

  /// Hands the guest input, from any thread.
  /// - Returns: how many bytes were taken, from the first on. When fewer than offered, `whenRoomForInput` follows.
  public func receive(_ bytes: [UInt8]) -> Int {
    bytes.withUnsafeBytes { receive($0) }
  }
}
