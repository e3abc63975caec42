// Frames over a stream socket: each behind its length, four bytes in network order. So passt speaks, and QEMU's
// `-netdev stream`.
//
// A frame is sent by one call, and one that goes only in part is finished before the next: passt reads what there is, and
// takes the beginning of a frame that it finds at the end for a whole length.

import Glibc
import Synchronization
import SystemPackage
import TrivisorCLinux
import TrivisorVMM

/// A link to whoever is at the other end of a socket; one that listens takes the next when that one is gone.
public final class StreamLink: NetworkLink {
  /// Bytes of a length.
  private static let lengthSize = 4
  /// An Ethernet header.
  private static let headerSize = 14
  /// No longer frame comes or goes: passt takes no longer one.
  private static let frameMaximum = 65_535
  /// Of what comes: some frames of the longest kind.
  private static let inputCapacity = 256 << 10
  /// How often is read before somebody else has a turn.
  private static let readsPerTurn = 4

  // Unchecked: the buffers are this value's alone, and the mutex guards the value.
  private struct State: ~Copyable, @unchecked Sendable {
    /// Negative where nobody is.
    var socket: Int32 = -1
    var events: UInt32 = 0
    /// Negative where nobody is waited for.
    var listener: Int32 = -1
    var listenerEvents: UInt32 = 0
    var wantsFrames = false
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: StreamLink.inputCapacity, alignment: 8)
    var (inputStart, inputEnd) = (0, 0)
    let output = UnsafeMutableRawBufferPointer.allocate(
      byteCount: StreamLink.lengthSize + StreamLink.frameMaximum, alignment: 8)
    /// What of a frame is still to go.
    var (outputStart, outputEnd) = (0, 0)

    deinit {
      input.deallocate()
      output.deallocate()
      if socket >= 0 { Glibc.close(socket) }
      if listener >= 0 { Glibc.close(listener) }
    }
  }

  private let state: Mutex<State>
  private let events: EventSet
  private let connected: Atomic<Bool>
  private let whenClosed: Mutex<(@Sendable () -> Void)?>

  /// Checksums.
  public let offloads: NetworkOffloads = .checksums
  /// 65520 bytes: with the Ethernet header, what four bytes less than 64 KiB hold.
  public let maximumTransferUnit: UInt16 = 65_520
  /// Whether the other end is known to make no wrong ones.
  public let deliversValidChecksums: Bool

  /// - Parameters:
  ///   - socket: connected, and this link's from here on.
  ///   - whenClosed: called once, when the link was closed.
  package init(
    connected socket: Int32, deliversValidChecksums: Bool, whenClosed: (@Sendable () -> Void)? = nil
  ) throws(NetworkFailure) {
    var state = State()
    state.socket = socket
    self.state = Mutex(state)
    self.deliversValidChecksums = deliversValidChecksums
    self.whenClosed = Mutex(whenClosed)
    connected = Atomic(true)
    events = try EventSet()
  }

  /// - Parameter listener: a socket that listens, and is this link's from here on.
  init(listening listener: Int32) throws(NetworkFailure) {
    var state = State()
    state.listener = listener
    self.state = Mutex(state)
    deliversValidChecksums = false
    whenClosed = Mutex(nil)
    connected = Atomic(false)
    events = try EventSet()
    self.state.withLock { updateEvents(&$0) }
  }

  deinit { close() }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var isUp: Bool { connected.load(ordering: .acquiring) }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var eventDescriptor: Int32 { events.descriptor }

  private func updateEvents(_ state: inout State) {
    var wanted: UInt32 = 0
    if state.wantsFrames { wanted |= EventSet.readable }
    if state.outputStart < state.outputEnd { wanted |= EventSet.writable }
    events.change(state.socket, from: state.events, to: wanted)
    state.events = wanted
    let awaited = state.socket < 0 ? EventSet.readable : 0
    events.change(state.listener, from: state.listenerEvents, to: awaited)
    state.listenerEvents = awaited
  }

  /// The other end is gone, or says what makes no sense.
  private func lose(_ state: inout State) {
    guard state.socket >= 0 else { return }
    events.change(state.socket, from: state.events, to: 0)
    Glibc.close(state.socket)
    (state.socket, state.events) = (-1, 0)
    (state.inputStart, state.inputEnd, state.outputStart, state.outputEnd) = (0, 0, 0, 0)
    connected.store(false, ordering: .releasing)
    updateEvents(&state)
  }

  /// Sends the rest of a frame; whoever waits at a listening socket comes in.
  public func settle() {
    state.withLock { state in
      flush(&state)
      guard state.socket < 0, state.listener >= 0 else { return }
      let socket = accept4(state.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
      guard socket >= 0 else { return }
      state.socket = socket
      connected.store(true, ordering: .releasing)
      updateEvents(&state)
    }
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func setWantsFrames(_ wants: Bool) {
    state.withLock { state in
      guard state.wantsFrames != wants else { return }
      state.wantsFrames = wants
      updateEvents(&state)
    }
  }

  /// All frames are complete here.
  public func setGuestOffloads(_ offloads: NetworkOffloads) {}

  // MARK: Sending

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool {
    state.withLock { state in
      flush(&state)
      guard state.outputStart == state.outputEnd else { return false }
      let count = frame.byteCount
      guard state.socket >= 0, count >= Self.headerSize, count <= Self.frameMaximum else { return true }
      let place = UnsafeMutableRawBufferPointer(
        rebasing: state.output[Self.lengthSize..<(Self.lengthSize + count)])
      guard frame.read(into: place) else { return true }
      if header.flags & NetworkFrameHeader.Flag.needsChecksum != 0, !InternetChecksum.complete(place, header) {
        return true
      }
      state.output.storeBytes(of: UInt32(count).bigEndian, as: UInt32.self)
      (state.outputStart, state.outputEnd) = (0, Self.lengthSize + count)
      flush(&state)
      return true
    }
  }

  private func flush(_ state: inout State) {
    guard state.outputStart < state.outputEnd else { return }
    while state.outputStart < state.outputEnd, state.socket >= 0 {
      let rest = UnsafeRawBufferPointer(rebasing: state.output[state.outputStart..<state.outputEnd])
      let sent = Glibc.send(state.socket, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      if sent < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN || errno == ENOBUFS { break }
        return lose(&state)
      }
      state.outputStart += sent
    }
    updateEvents(&state)
  }

  // MARK: Receiving

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {
    state.withLock { state in
      for turn in 0...Self.readsPerTurn {
        while let count = nextFrame(&state) {
          let start = state.inputStart + Self.lengthSize
          let frame = UnsafeRawBufferPointer(rebasing: state.input[start..<(start + count)])
          guard take(frame, NetworkFrameHeader()) else { return }
          state.inputStart = start + count
        }
        guard turn < Self.readsPerTurn, read(&state) else { return }
      }
    }
  }

  /// How long the next frame is, if all of it has come.
  private func nextFrame(_ state: inout State) -> Int? {
    let available = state.inputEnd - state.inputStart
    guard available >= Self.lengthSize else { return nil }
    let length = Int(
      UInt32(bigEndian: state.input.loadUnaligned(fromByteOffset: state.inputStart, as: UInt32.self)))
    guard length >= Self.headerSize, length <= Self.frameMaximum else {
      lose(&state)
      return nil
    }
    return available >= Self.lengthSize + length ? length : nil
  }

  /// Whether something came.
  private func read(_ state: inout State) -> Bool {
    guard state.socket >= 0, let base = state.input.baseAddress else { return false }
    let available = state.inputEnd - state.inputStart
    if available == 0 {
      (state.inputStart, state.inputEnd) = (0, 0)
    } else if state.inputStart > 0, state.input.count - state.inputEnd < Self.lengthSize + Self.frameMaximum {
      memmove(base, base + state.inputStart, available)
      (state.inputStart, state.inputEnd) = (0, available)
    }
    while true {
      let count = recv(
        state.socket, base + state.inputEnd, state.input.count - state.inputEnd, Int32(MSG_DONTWAIT))
      if count < 0, errno == EINTR { continue }
      if count > 0 {
        state.inputEnd += count
        return true
      }
      if count == 0 || errno != EAGAIN { lose(&state) }
      return false
    }
  }

  // MARK: The end

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func close() {
    state.withLock { state in
      lose(&state)
      guard state.listener >= 0 else { return }
      events.change(state.listener, from: state.listenerEvents, to: 0)
      Glibc.close(state.listener)
      (state.listener, state.listenerEvents) = (-1, 0)
    }
    whenClosed.withLock { hook in
      defer { hook = nil }
      return hook
    }?()
  }
}
