import TrivisorDevices
import TrivisorVMM

/// The beginning of a request, as a driver of the device's type makes it.
struct FuzzRequest {
  var bytes: [UInt8]
  /// Whether a driver would have the device read no more than this.
  var isWhole = false
}

/// A device that is looked at, with what is behind it on the host.
protocol FuzzSubject: AnyObject {
  var device: any VirtioDevice { get }
  /// Of the device's type; the driver accepts them half the time.
  var features: VirtioFeatures { get }
  /// Behind it, and behind the memory that drivers use, nothing may have changed.
  var memory: GuestMemory { get }

  /// A driver has set the device up.
  func opened()
  /// What a driver puts first into a request to a queue; `nil` where it gives nothing but room.
  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest?
  /// What the host does meanwhile.
  func hostStep(_ random: inout FuzzRandom)
  /// What else must hold at the end.
  func check() throws
}

extension FuzzSubject {
  func opened() {}
  func hostStep(_ random: inout FuzzRandom) {}
  func check() throws {}
}
