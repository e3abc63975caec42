/// Where a serial port's output goes.
///
/// Called on the thread of the processor that wrote, with no lock of the port held; may block, as long as `abandon()`
/// ends that.
public protocol SerialSink: AnyObject, Sendable {
  /// Takes all of `bytes`; what can't be delivered is dropped.
  func write(_ bytes: UnsafeRawBufferPointer)

  /// Returns when everything taken so far has been delivered, or can't be: before the process ends.
  func finish()

  /// Gives up: what is blocked returns at once, everything not delivered is dropped. From any thread.
  func abandon()

  /// Nothing more comes, in no further life of the machine either: whatever of the host's was opened for this is closed, so
  /// that a reader finds the end. After `finish()` or `abandon()`.
  func close()
}

extension SerialSink {
  /// Nothing was opened.
  public func close() {}
}
