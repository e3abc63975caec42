// A tap interface of the host's (Linux: Documentation/networking/tuntap.rst): the host's kernel takes the guest's frames as if
// they had come over a wire. With IFF_VNET_HDR each frame has the header in front that virtio devices use, so checksums and
// the cutting into segments are left to the kernel, or by it to the guest.

import Glibc
import Synchronization
import SystemPackage
import TrivisorCLinux
import TrivisorVMM

/// A link to the host's kernel.
public final class TapLink: NetworkLink {
  /// A packet of the longest kind, an Ethernet header with a tag, and ours.
  private static let capacity = 65_535 + 18 + NetworkFrameHeader.size
  /// Frames that are read before somebody else has a turn.
  private static let framesPerTurn = 64

  // Unchecked: the buffers are this value's alone, and the mutex guards the value.
  private struct State: ~Copyable, @unchecked Sendable {
    /// Negative when the interface is gone.
    var descriptor: Int32
    var events: UInt32 = 0
    var wantsFrames = false
    /// Whether the kernel gives frames to this queue of the interface's.
    var takesPart = true
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: TapLink.capacity, alignment: 8)
    /// Of a frame that was not taken.
    var inputCount = 0
    let output = UnsafeMutableRawBufferPointer.allocate(byteCount: TapLink.capacity, alignment: 8)
    /// Of a frame that did not go.
    var outputCount = 0

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit {
      input.deallocate()
      output.deallocate()
      if descriptor >= 0 { Glibc.close(descriptor) }
    }
  }

  private let state: Mutex<State>
  private let events: EventSet
  private let isThere = Atomic<Bool>(true)

  /// All that there are.
  public let offloads: NetworkOffloads = [.checksums, .segments4, .segments6, .congestion]
  /// The interface's.
  public let maximumTransferUnit: UInt16
  /// The kernel says it of each frame.
  public let deliversValidChecksums = false

  /// Queues of one interface, by each of which frames come and go. The kernel chooses the queue that a connection's frames come
  /// by: that by which it goes. At first, only the first takes part.
  /// - Parameter count: with more than one, the interface must have been made with IFF_MULTI_QUEUE.
  /// - Throws: `NetworkFailure`.
  public static func queues(of name: String, count: Int) throws(NetworkFailure) -> [TapLink] {
    var links: [TapLink] = []
    for index in 0..<max(count, 1) {
      let link = try TapLink(name, isOneOfSeveral: count > 1)
      if index > 0 { link.setTakesPart(false) }
      links.append(link)
    }
    return links
  }

  /// - Parameters:
  ///   - name: of an interface that is there.
  ///   - isOneOfSeveral: whether other links have queues of the same interface.
  /// - Throws: `NetworkFailure`.
  public init(_ name: String, isOneOfSeveral: Bool = false) throws(NetworkFailure) {
    // Linux: IFNAMSIZ, dev_valid_name.
    guard !name.isEmpty, name.utf8.count < 16, !name.contains("/"), !name.contains("\0") else {
      throw NetworkFailure("\(Setting.network): '\(name)' is no name of an interface", isUsage: true)
    }
    guard if_nametoindex(name) != 0 else {
      throw NetworkFailure(
        """
        \(Setting.network): there is no interface \(name): make it by 'ip tuntap add dev \(name) mode tap user USER' and \
        'ip link set \(name) up'
        """)
    }
    let descriptor = clinux_open_tap(name, Int32(NetworkFrameHeader.size), isOneOfSeveral ? 1 : 0)
    guard descriptor >= 0 else { throw Self.refusal(name, Errno(rawValue: -descriptor), isOneOfSeveral) }
    // An interface that was there a moment ago has one.
    maximumTransferUnit = UInt16(clamping: max(68, clinux_interface_mtu(name)))
    state = Mutex(State(descriptor))
    events = try EventSet()
  }

  private static func refusal(_ name: String, _ error: Errno, _ isOneOfSeveral: Bool) -> NetworkFailure {
    switch error {
    case .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice:
      NetworkFailure("\(Setting.network): this host has no /dev/net/tun (CONFIG_TUN, module tun)")
    case .permissionDenied:
      NetworkFailure("\(Setting.network): /dev/net/tun can't be opened: \(error): let this user read and write it")
    case .notPermitted:
      NetworkFailure(
        """
        \(Setting.network): the tap interface \(name) belongs to somebody else: make it by 'ip tuntap add dev \(name) \
        mode tap user USER', or run with CAP_NET_ADMIN
        """)
    case .resourceBusy:
      NetworkFailure("\(Setting.network): another program has the tap interface \(name)")
    case .argListTooLong:
      NetworkFailure("\(Setting.network): the tap interface \(name) has no such number of queues: ask for fewer")
    case .invalidArgument where isOneOfSeveral:
      NetworkFailure(
        """
        \(Setting.network): \(name) is no tap interface with several queues: make it by 'ip tuntap add dev \(name) mode tap \
        multi_queue user USER', or leave the number of queues out
        """)
    case .invalidArgument:
      NetworkFailure("\(Setting.network): \(name) is no tap interface")
    default:
      NetworkFailure(host: "opening the tap interface \(name)", error)
    }
  }

  deinit { close() }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var isUp: Bool { isThere.load(ordering: .acquiring) }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var eventDescriptor: Int32 { events.descriptor }

  private func updateEvents(_ state: inout State) {
    let wanted = (state.wantsFrames ? EventSet.readable : 0) | (state.outputCount > 0 ? EventSet.writable : 0)
    events.change(state.descriptor, from: state.events, to: wanted)
    state.events = wanted
  }

  /// Sends a frame that waits.
  public func settle() { state.withLock { flush(&$0) } }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func setWantsFrames(_ wants: Bool) {
    state.withLock { state in
      guard state.wantsFrames != wants else { return }
      state.wantsFrames = wants
      updateEvents(&state)
    }
  }

  /// Frames that wait in the queue are lost when it does so no more.
  public func setTakesPart(_ takesPart: Bool) {
    state.withLock { state in
      guard state.descriptor >= 0, state.takesPart != takesPart else { return }
      guard clinux_set_tap_queue(state.descriptor, takesPart ? 1 : 0) == 0 else { return }
      state.takesPart = takesPart
      state.inputCount = 0
    }
  }

  /// The kernel hears of it. One that refuses completes frames itself.
  public func setGuestOffloads(_ offloads: NetworkOffloads) {
    var flags: UInt32 = 0
    if offloads.contains(.checksums) {
      flags = UInt32(TUN_F_CSUM)
      if offloads.contains(.segments4) { flags |= UInt32(TUN_F_TSO4) }
      if offloads.contains(.segments6) { flags |= UInt32(TUN_F_TSO6) }
      if offloads.contains(.congestion), flags != UInt32(TUN_F_CSUM) { flags |= UInt32(TUN_F_TSO_ECN) }
    }
    state.withLock { state in
      if clinux_set_tap_offloads(state.descriptor, flags) != 0 { _ = clinux_set_tap_offloads(state.descriptor, 0) }
      // What waits may be of another kind.
      state.inputCount = 0
    }
  }

  private func lose(_ state: inout State) {
    guard state.descriptor >= 0 else { return }
    events.change(state.descriptor, from: state.events, to: 0)
    Glibc.close(state.descriptor)
    (state.descriptor, state.events, state.inputCount, state.outputCount) = (-1, 0, 0, 0)
    isThere.store(false, ordering: .releasing)
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool {
    state.withLock { state in
      flush(&state)
      guard state.outputCount == 0 else { return false }
      let count = NetworkFrameHeader.size + frame.byteCount
      guard state.descriptor >= 0, count <= state.output.count else { return true }
      header.store(to: state.output)
      guard frame.read(into: UnsafeMutableRawBufferPointer(rebasing: state.output[NetworkFrameHeader.size..<count]))
      else { return true }
      state.outputCount = count
      flush(&state)
      return true
    }
  }

  private func flush(_ state: inout State) {
    guard state.outputCount > 0 else { return }
    while state.descriptor >= 0 {
      let written = write(state.descriptor, state.output.baseAddress, state.outputCount)
      if written < 0, errno == EINTR { continue }
      if written < 0, errno == EAGAIN { return updateEvents(&state) }
      if written < 0, errno == EBADFD { return lose(&state) }
      break
    }
    // What the kernel does not take, or an interface that is down, is lost.
    state.outputCount = 0
    updateEvents(&state)
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {
    state.withLock { state in
      guard state.takesPart else { return }
      for _ in 0..<Self.framesPerTurn {
        if state.inputCount == 0, !read(&state) { return }
        let bytes = UnsafeRawBufferPointer(rebasing: state.input[..<state.inputCount])
        if let header = NetworkFrameHeader(bytes) {
          guard take(UnsafeRawBufferPointer(rebasing: bytes[NetworkFrameHeader.size...]), header) else { return }
        }
        state.inputCount = 0
      }
    }
  }

  /// Whether a frame came.
  private func read(_ state: inout State) -> Bool {
    while state.descriptor >= 0 {
      let count = Glibc.read(state.descriptor, state.input.baseAddress, state.input.count)
      if count > 0 {
        state.inputCount = count
        return true
      }
      if count < 0, errno == EINTR { continue }
      // EIO: the interface is down, and may be up again.
      if count < 0, errno == EBADFD { lose(&state) }
      return false
    }
    return false
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func close() { state.withLock { lose(&$0) } }
}
