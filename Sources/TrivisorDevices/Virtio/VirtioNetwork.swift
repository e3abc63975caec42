// A virtio network interface (virtio 1.2, 5.1) with one pair of queues.
//
// Queue 0 has the driver's empty buffers, which frames from the link fill; queue 1 brings the guest's frames. While the
// guest has no buffers, nothing is taken from the link; while the link has no room, nothing is taken from the guest. So no
// more than a frame in each direction is kept here.
//
// Checksums that the guest leaves to us are completed by the link, or by the host's kernel behind it.

import TrivisorCLinux
import Glibc
import Synchronization
import TrivisorVMM

/// A network interface.
public final class VirtioNetwork: VirtioDevice {
  private enum Feature {
    static let checksum = VirtioFeatures.bit(0)
    static let guestChecksum = VirtioFeatures.bit(1)
    static let mtu = VirtioFeatures.bit(3)
    static let macAddress = VirtioFeatures.bit(5)
    static let guestSegments4 = VirtioFeatures.bit(7)
    static let guestSegments6 = VirtioFeatures.bit(8)
    static let guestCongestion = VirtioFeatures.bit(9)
    static let hostSegments4 = VirtioFeatures.bit(11)
    static let hostSegments6 = VirtioFeatures.bit(12)
    static let hostCongestion = VirtioFeatures.bit(13)
    static let mergeableBuffers = VirtioFeatures.bit(15)
    static let status = VirtioFeatures.bit(16)

    /// What each offload is called where the guest leaves it to us, and where we leave it to the guest.
    static let offloads: [(NetworkOffloads, host: VirtioFeatures, guest: VirtioFeatures)] = [
      (.checksums, checksum, guestChecksum), (.segments4, hostSegments4, guestSegments4),
      (.segments6, hostSegments6, guestSegments6), (.congestion, hostCongestion, guestCongestion),
    ]
  }

  private enum Queue {
    static let receive = 0
    static let transmit = 1
  }

  private enum Status {
    static let linkUp: UInt8 = 1
  }

  /// An Ethernet header; and with a tag of a virtual network.
  private static let headerLengths = (plain: 14, tagged: 18)
  /// The longest that a segment's headers and data can be, beside the Ethernet header.
  private static let packetMaximum = 65_535
  /// Frames of the guest's that are handled before it is told of them.
  private static let burst = 64

  private struct State {
    /// What the driver has accepted.
    var features = VirtioFeatures()
    /// What the driver leaves to us.
    var offloads = NetworkOffloads()
    var isRunning = false
    var linkWasUp: Bool
    var address: MACAddress
    var host: VirtioHost?
  }

  private let link: any NetworkLink
  private let state: Mutex<State>

  /// - Parameters:
  ///   - link: stays when the machine starts anew; whoever made it closes it.
  ///   - address: the interface's.
  public init(_ link: any NetworkLink, address: MACAddress) {
    self.link = link
    state = Mutex(State(linkWasUp: link.isUp, address: address))
  }

  /// Network interface.
  public let deviceID = VirtioDeviceID.network
  /// Receive and transmit.
  public let queueSizes: [UInt16] = [512, 256]
  /// The link's.
  public var eventDescriptor: Int32? { link.eventDescriptor }

  /// What the link takes over, and would leave to the guest.
  public var features: VirtioFeatures {
    var features: VirtioFeatures = [
      Feature.macAddress, Feature.mtu, Feature.mergeableBuffers, Feature.status,
    ]
    for (offload, host, guest) in Feature.offloads where link.offloads.contains(offload) {
      features.formUnion([host, guest])
    }
    return features
  }

  /// Address, status, MTU.
  public func configuration(at offset: UInt64) -> UInt8 {
    switch offset {
    case 0..<6: state.withLock { $0.address.bytes[Int(offset)] }
    case 6: link.isUp ? Status.linkUp : 0
    case 10: UInt8(truncatingIfNeeded: link.maximumTransferUnit)
    case 11: UInt8(truncatingIfNeeded: link.maximumTransferUnit >> 8)
    default: 0
    }
  }

  /// Keeps the way to the driver.
  public func attach(to host: VirtioHost) { state.withLock { $0.host = host } }

  /// Frames flow from now on.
  public func start(features: VirtioFeatures) {
    var (leaves, takes) = (NetworkOffloads(), NetworkOffloads())
    for (offload, host, guest) in Feature.offloads {
      if features.contains(host) { leaves.insert(offload) }
      if features.contains(guest), link.offloads.contains(offload) { takes.insert(offload) }
    }
    link.setGuestOffloads(takes)
    state.withLock { state in
      state.features = features
      state.offloads = leaves
      state.isRunning = true
    }
  }

  /// Frames wait in the link.
  public func reset() {
    state.withLock { $0.isRunning = false }
    link.setWantsFrames(false)
  }

  // MARK: Queues

  /// Moves frames in one direction.
  public func process(_ queue: VirtioQueue) {
    if queue.index == Queue.receive { link.settle() }
    guard state.withLock({ $0.isRunning }) else { return }
    if queue.index == Queue.receive { processReceive(queue) } else { processTransmit(queue) }
    let changedHost = state.withLock { state -> VirtioHost? in
      guard state.linkWasUp != link.isUp else { return nil }
      state.linkWasUp.toggle()
      return state.host
    }
    changedHost?.configurationChanged()
  }

  private func processTransmit(_ queue: VirtioQueue) {
    let offloads = state.withLock { $0.offloads }
    var goesOn = true
    while goesOn {
      goesOn = false
      queue.batch { (ring, pieces) throws(VirtioFault) in
        ring.suppressNotifications()
        for _ in 0..<Self.burst {
          guard var chain = try ring.next(storage: pieces) else {
            goesOn = ring.requestNotification()
            return
          }
          guard send(&chain.readable, offloads) else { return }
          ring.complete(chain.head, written: 0)
        }
        goesOn = true
      }
    }
  }

  /// - Returns: whether it is gone, to the link or for nothing.
  private func send(_ frame: inout BufferList, _ offloads: NetworkOffloads) -> Bool {
    let header = withUnsafeTemporaryAllocation(byteCount: NetworkFrameHeader.size, alignment: 2) { bytes in
      frame.read(into: bytes) ? NetworkFrameHeader(UnsafeRawBufferPointer(bytes)) : nil
    }
    // What nobody may send is nothing to be told of: a frame that is lost.
    guard let header, let demands = header.demands, offloads.isSuperset(of: demands),
      frame.byteCount >= Self.headerLengths.plain,
      frame.byteCount <= Self.packetMaximum + Self.headerLengths.tagged
    else { return true }
    return link.send(&frame, header)
  }

  private func processReceive(_ queue: VirtioQueue) {
    let features = state.withLock { $0.features }
    let validates = features.contains(Feature.guestChecksum) && link.deliversValidChecksums
    var delivery = FrameDelivery(mergesBuffers: features.contains(Feature.mergeableBuffers))
    let isInUse = queue.batch { (ring, pieces) throws(VirtioFault) in
      var fault: VirtioFault?
      var lacksBuffers = false
      ring.suppressNotifications()
      link.receive { frame, header in
        var header = header
        if validates, header.flags & NetworkFrameHeader.Flag.needsChecksum == 0 {
          header.flags |= NetworkFrameHeader.Flag.dataIsValid
        }
        do throws(VirtioFault) {
          while try !delivery.lay(frame, header, into: &ring, pieces) {
            guard ring.requestNotification(behind: delivery.tooFew) else {
              lacksBuffers = true
              return false
            }
            ring.suppressNotifications()
          }
          return true
        } catch {
          fault = error
          return false
        }
      }
      if let fault { throw fault }
      link.setWantsFrames(!lacksBuffers)
    }
    if !isInUse { link.setWantsFrames(false) }
  }
}

extension VirtioNetwork {
  /// Which interface it is. Frames that were under way are lost, as frames may be.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var address: MACAddress
    var maximumTransferUnit: UInt16
    var wasUp: Bool
  }

  /// What the driver knows of the interface.
  public func save() -> VirtioDeviceState {
    .network(
      Saved(
        address: state.withLock { $0.address }, maximumTransferUnit: link.maximumTransferUnit,
        wasUp: link.isUp))
  }

  /// The address goes on with the machine.
  /// - Throws: `RestoreFailure` for another device's, or one whose frames this link can't carry.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .network(let interface) = saved else {
      throw RestoreFailure("network interface", "it is another device's")
    }
    try restoring(
      "network interface", requires: interface.maximumTransferUnit <= link.maximumTransferUnit,
      "its packets have up to \(interface.maximumTransferUnit) bytes, and what it is attached to carries "
        + "\(link.maximumTransferUnit)")
    state.withLock { state in
      state.address = interface.address
      state.isRunning = false
    }
    if let features { start(features: features) }
    return interface.wasUp != link.isUp || interface.maximumTransferUnit != link.maximumTransferUnit
  }
}
