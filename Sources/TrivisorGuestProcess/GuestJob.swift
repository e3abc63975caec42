/// One guest to be run in a process of its own, and whoever wants to know how it goes. Called on one thread.
public protocol GuestJob: AnyObject {
  /// The words behind `trivisor run`.
  var arguments: [String] { get }

  /// Nanoseconds after which the process is killed, if it is: it should have ended by itself long before.
  var hardLimit: UInt64? { get }

  /// The process is about to be made.
  func begin()

  /// The guest wrote to its console, `time` nanoseconds after the process's start.
  /// - Returns: whether to go on; otherwise the guest is ended.
  func receive(_ bytes: UnsafeRawBufferPointer, at time: UInt64) -> Bool

  /// It is over.
  func end(_ ending: GuestEnding)
}
