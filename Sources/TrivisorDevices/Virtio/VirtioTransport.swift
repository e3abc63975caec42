/// How a driver reaches a virtio device, as the machine that owns the device sees it.
public protocol VirtioTransport: AnyObject, Sendable {
  /// Ends the device's thread after the request at hand: before guest memory is saved or goes.
  func stop()
  /// What the driver did wrong since the last reset, for a report.
  var fault: VirtioFault? { get }
  /// Keeps the device from its queues; returns when the requests at hand are done, those of its other end included: writing to a
  /// console waits for who reads it. To be followed by `release`.
  func hold()
  /// Ends a `hold`.
  func release()
}
