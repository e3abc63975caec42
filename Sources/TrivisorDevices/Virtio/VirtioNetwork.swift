// A virtio network interface (virtio 1.2, 5.1) with pairs of queues: a link, and a thread, for each pair, all to the same place.
//
// The first queue of a pair has the driver's empty buffers, which frames from the link fill; the second brings the guest's
// frames. While the guest has no buffers, nothing is taken from the link; while the link has no room, nothing is taken from
// the guest. So no more than a frame in each direction is kept here.
//
// With several pairs, one more queue brings the driver's orders, of which there is one: so many pairs are in use, one until
// it says otherwise. By which pair a connection's frames come is the links' to choose.
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
    static let controlQueue = VirtioFeatures.bit(17)
    static let severalPairs = VirtioFeatures.bit(22)

    /// What each offload is called where the guest leaves it to us, and where we leave it to the guest.
    static let offloads: [(NetworkOffloads, host: VirtioFeatures, guest: VirtioFeatures)] = [
      (.checksums, checksum, guestChecksum), (.segments4, hostSegments4, guestSegments4),
      (.segments6, hostSegments6, guestSegments6), (.congestion, hostCongestion, guestCongestion),
    ]
  }

  private enum Queue: Equatable {
    case receive(pair: Int)
    case transmit(pair: Int)
    case control
  }

  /// Orders of the driver's (virtio 1.2, 5.1.6.5).
  private enum Control {
    static let acknowledged: UInt8 = 0
    static let failed: UInt8 = 1
    /// Class and command: how many pairs are in use.
    static let setPairs: (UInt8, UInt8) = (4, 0)
  }

  private enum Status {
    static let linkUp: UInt8 = 1
  }

  /// An Ethernet header; and with a tag of a virtual network.
  private static let headerLengths = (plain: 14, tagged: 18)
  /// The longest that a segment's headers and data can be, beside the Ethernet header.
  private static let packetMaximum = 65_535
  /// The most pairs of queues.
  public static let pairLimit = 8
  /// Frames of the guest's that are handled before it is told of them.
  private static let burst = 64
  /// How often a ring is believed that it has more by now, when what it had did not suffice. A driver that has just added something is
  /// believed once; one whose tables lie over one another could say so for ever.
  private static let emptyRoundLimit = 4

  private struct State {
    /// What the driver has accepted.
    var features = VirtioFeatures()
    /// What the driver leaves to us.
    var offloads = NetworkOffloads()
    var isRunning = false
    /// Pairs that are in use.
    var pairs = 1
    var linkWasUp: Bool
    var address: MACAddress
    var host: VirtioHost?
  }

  /// What is to be known of all links, the first says.
  private let link: any NetworkLink
  private let links: [any NetworkLink]
  private let state: Mutex<State>

  /// With one pair of queues.
  /// - Parameters:
  ///   - link: stays when the machine starts anew; whoever made it closes it.
  ///   - address: the interface's.
  public convenience init(_ link: any NetworkLink, address: MACAddress) { self.init(link, [], address) }

  /// - Parameters:
  ///   - links: one for each pair of queues, all to the same place. They stay when the machine starts anew; whoever made them closes
  ///     them.
  ///   - address: the interface's.
  public convenience init?(_ links: [any NetworkLink], address: MACAddress) {
    guard let first = links.first, links.count <= Self.pairLimit else { return nil }
    self.init(first, Array(links.dropFirst()), address)
  }

  private init(_ link: any NetworkLink, _ further: [any NetworkLink], _ address: MACAddress) {
    self.link = link
    links = [link] + further
    let pairs = Array(repeating: [UInt16(512), 256], count: links.count)
    queueSizes = pairs.flatMap { $0 } + (further.isEmpty ? [] : [64])
    state = Mutex(State(linkWasUp: link.isUp, address: address))
  }

  /// Network interface.
  public let deviceID = VirtioDeviceID.network
  /// Receive and transmit of each pair; control, with several.
  public let queueSizes: [UInt16]
  /// One a pair; the first has the driver's orders, too.
  public var threads: [VirtioThread] {
    links.enumerated().map { pair, link in
      let control = pair == 0 && links.count > 1 ? [2 * links.count] : []
      return VirtioThread([2 * pair, 2 * pair + 1] + control, eventDescriptor: link.eventDescriptor)
    }
  }

  /// What the link takes over, and would leave to the guest.
  public var features: VirtioFeatures {
    var features: VirtioFeatures = [
      Feature.macAddress, Feature.mtu, Feature.mergeableBuffers, Feature.status,
    ]
    for (offload, host, guest) in Feature.offloads where link.offloads.contains(offload) {
      features.formUnion([host, guest])
    }
    if links.count > 1 { features.formUnion([Feature.controlQueue, Feature.severalPairs]) }
    return features
  }

  /// What a queue is for: with a driver that does not know of several pairs, the third one is for its orders (5.1.2).
  private func role(_ queue: Int, _ features: VirtioFeatures) -> Queue? {
    let knowsPairs = features.contains(Feature.severalPairs)
    if queue == (knowsPairs ? 2 * links.count : 2) {
      return features.contains(Feature.controlQueue) ? .control : nil
    }
    guard queue < (knowsPairs ? 2 * links.count : 2) else { return nil }
    return queue % 2 == 0 ? .receive(pair: queue / 2) : .transmit(pair: queue / 2)
  }

  /// Address, status, pairs, MTU.
  public func configuration(at offset: UInt64) -> UInt8 {
    switch offset {
    case 0..<6: state.withLock { $0.address.bytes[Int(offset)] }
    case 6: link.isUp ? Status.linkUp : 0
    case 8: links.count > 1 ? UInt8(links.count) : 0
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
    usePairs(1)
  }

  /// Frames wait in the first link.
  public func reset() {
    state.withLock { $0.isRunning = false }
    for link in links { link.setWantsFrames(false) }
    usePairs(1)
  }

  /// From now on, these take part.
  private func usePairs(_ count: Int) {
    state.withLock { $0.pairs = count }
    for (pair, link) in links.enumerated() where pair > 0 { link.setTakesPart(pair < count) }
  }

  // MARK: Queues

  /// Moves frames in one direction.
  public func process(_ queue: VirtioQueue) {
    // Its thread is this one, whatever the queue is for.
    let isFirst = queue.index % 2 == 0 && queue.index / 2 < links.count
    if isFirst { links[queue.index / 2].settle() }
    let (isRunning, features, pairs) = state.withLock { ($0.isRunning, $0.features, $0.pairs) }
    guard isRunning else { return }
    switch role(queue.index, features) {
    case .receive(let pair) where pair < pairs: processReceive(queue, links[pair])
    case .transmit(let pair) where pair < pairs: processTransmit(queue, links[pair])
    case .control: queue.drain { obey(&$0) }
    default: if isFirst { links[queue.index / 2].setWantsFrames(false) }
    }
    let changedHost = state.withLock { state -> VirtioHost? in
      guard state.linkWasUp != link.isUp else { return nil }
      state.linkWasUp.toggle()
      return state.host
    }
    changedHost?.configurationChanged()
  }

  /// Does what the driver orders; what isn't known fails.
  private func obey(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    var order: (UInt8, UInt8) = (0, 0)
    guard withUnsafeMutableBytes(of: &order, { chain.readable.read(into: $0) }),
      let answer = chain.writable.removeLast()
    else { return .malformed }
    var pairs: UInt16 = 0
    var succeeds = false
    if order == Control.setPairs, withUnsafeMutableBytes(of: &pairs, { chain.readable.read(into: $0) }),
      pairs >= 1, pairs <= links.count
    {
      usePairs(Int(pairs))
      succeeds = true
    }
    answer.storeBytes(of: succeeds ? Control.acknowledged : Control.failed, as: UInt8.self)
    // Buffers of pairs that are new may be there already.
    if succeeds { state.withLock { $0.host }?.wake() }
    return .completed(written: UInt32(truncatingIfNeeded: chain.writable.byteCount + 1))
  }

  private func processTransmit(_ queue: VirtioQueue, _ link: any NetworkLink) {
    let offloads = state.withLock { $0.offloads }
    var goesOn = true
    var emptyRounds = 0
    while goesOn {
      goesOn = false
      emptyRounds += 1
      queue.batch { (ring, pieces) throws(VirtioFault) in
        ring.suppressNotifications()
        for _ in 0..<Self.burst {
          guard var chain = try ring.next(storage: pieces) else {
            goesOn = ring.requestNotification()
            return
          }
          emptyRounds = 0
          guard send(&chain.readable, offloads, link) else { return }
          ring.complete(chain.head, written: 0)
        }
        goesOn = true
      }
      // Of a ring that says again and again that there is more, though there is nothing, the thread comes back for the next look: it
      // may have to stop.
      if goesOn, emptyRounds >= Self.emptyRoundLimit { return wake(queue.index) }
    }
  }

  private func wake(_ queue: Int) { state.withLock { $0.host }?.wake(queue: queue) }

  /// - Returns: whether it is gone, to the link or for nothing.
  private func send(_ frame: inout BufferList, _ offloads: NetworkOffloads, _ link: any NetworkLink) -> Bool {
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

  private func processReceive(_ queue: VirtioQueue, _ link: any NetworkLink) {
    let features = state.withLock { $0.features }
    let validates = features.contains(Feature.guestChecksum) && link.deliversValidChecksums
    var comesBack = false
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
          var rounds = 0
          while try !delivery.lay(frame, header, into: &ring, pieces) {
            guard ring.requestNotification(behind: delivery.tooFew) else {
              lacksBuffers = true
              return false
            }
            rounds += 1
            guard rounds < Self.emptyRoundLimit else {
              comesBack = true
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
    if comesBack { wake(queue.index) }
  }
}

extension VirtioNetwork {
  /// Which interface it is. Frames that were under way are lost, as frames may be.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 2
    var address: MACAddress
    var maximumTransferUnit: UInt16
    var wasUp: Bool
    /// Pairs of queues in use.
    var pairs: Int
  }

  /// What the driver knows of the interface.
  public func save() -> VirtioDeviceState {
    .network(
      Saved(
        address: state.withLock { $0.address }, maximumTransferUnit: link.maximumTransferUnit,
        wasUp: link.isUp, pairs: state.withLock { $0.pairs }))
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
    try restoring(
      "network interface", requires: (1...links.count).contains(interface.pairs),
      "\(interface.pairs) pairs of queues were in use, and it has \(links.count)")
    state.withLock { state in
      state.address = interface.address
      state.isRunning = false
    }
    if let features { start(features: features) }
    usePairs(interface.pairs)
    return interface.wasUp != link.isUp || interface.maximumTransferUnit != link.maximumTransferUnit
  }
}
