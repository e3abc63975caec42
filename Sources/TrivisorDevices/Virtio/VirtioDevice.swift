import TrivisorFileServer
import TrivisorVMM

/// A type of virtio device (virtio 1.2, chapter 5).
public enum VirtioDeviceID: UInt32, Sendable {
  case network = 1
  case block = 2
  case console = 3
  case entropy = 4
  case balloon = 5
  case socket = 19
  case fileSystem = 26
}

/// The part of a virtio device that is its type: what its queues' requests mean. It knows neither where the device is nor
/// how it is reached; `VirtioControl` and a transport do.
///
/// All methods but those of the configuration space are called by one thread at a time, unless there are several `threads`.
public protocol VirtioDevice: AnyObject, Sendable {
  /// Which type it is.
  var deviceID: VirtioDeviceID { get }
  /// What the type offers: bits of its own, not those that all devices share.
  var features: VirtioFeatures { get }
  /// The largest size of each queue, powers of two.
  var queueSizes: [UInt16] { get }
  /// The device's threads, each with the queues for which it calls `process`; together they have every queue once.
  var threads: [VirtioThread] { get }
  /// A byte of the configuration space; zero behind its end. Called by any thread at any time.
  func configuration(at offset: UInt64) -> UInt8
  /// A store to the configuration space, little-endian. Called by any thread at any time.
  func writeConfiguration(_ value: UInt64, at offset: UInt64, width: AccessWidth)

  /// Called once, before everything else.
  func attach(to host: VirtioHost)
  /// Driver and device have agreed on `features`; the driver may look at the configuration space before it is ready.
  func agree(on features: VirtioFeatures)
  /// The driver is ready, and has accepted `features`.
  func start(features: VirtioFeatures)
  /// The driver is gone: no request is being handled, and none comes until `start`.
  func reset()
  /// Handles what `queue` has, until it is empty. Called on the device's own thread, now and then for nothing.
  func process(_ queue: VirtioQueue)

  /// What the type remembers beside what its transport does. Called while no request is being handled.
  func save() -> VirtioDeviceState
  /// Replaces that, and takes the place of `start` if there are features.
  /// - Parameter features: what the driver has accepted, if it is ready.
  /// - Returns: whether the configuration space is another one than the driver knows.
  /// - Throws: `RestoreFailure` for another type's, or one that `save` could not have given; nothing has changed then.
  func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool
}

/// What one of a device's threads is for.
public struct VirtioThread: Sendable {
  /// By number.
  public var queues: [Int]
  /// What the thread waits for beside notifications, level-triggered: a descriptor that is readable when there is
  /// something for `process`.
  public var eventDescriptor: Int32?

  /// - Parameter eventDescriptor: `nil` to wait for notifications alone.
  public init(_ queues: some Sequence<Int>, eventDescriptor: Int32? = nil) {
    self.queues = Array(queues)
    self.eventDescriptor = eventDescriptor
  }
}

extension VirtioDevice {
  /// One for all, which waits for nothing but requests.
  public var threads: [VirtioThread] { [VirtioThread(queueSizes.indices)] }
  /// What depends on features begins with `start`.
  public func agree(on features: VirtioFeatures) {}
  /// There is nothing to be written.
  public func writeConfiguration(_ value: UInt64, at offset: UInt64, width: AccessWidth) {}
}

/// What a device's type remembers, as a value.
public enum VirtioDeviceState: Codable, Sendable, Equatable {
  /// Nothing: the source of random numbers.
  case entropy
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case network(VirtioNetwork.Saved)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case block(VirtioBlock.Saved)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case console(VirtioConsole.Saved)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case fileSystem(FileServer.Saved)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case balloon(VirtioBalloon.Saved)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case socket(VirtioSocket.Saved)
}
