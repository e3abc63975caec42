import Glibc
import Synchronization
import TrivisorCLinux
import TrivisorVMM

/// A link whose other end is the test.
final class MemoryLink: NetworkLink {
  struct Sent: Equatable {
    var bytes: [UInt8]
    var header: NetworkFrameHeader
  }

  private struct State {
    var incoming: [Sent] = []
    var sent: [Sent] = []
    var isFull = false
    var wantsFrames = false
    var guestOffloads: NetworkOffloads?
    var isUp = true
    var takesPart = true
  }

  private let state = Mutex(State())
  let offloads: NetworkOffloads
  let maximumTransferUnit: UInt16
  let deliversValidChecksums: Bool
  let eventDescriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))

  init(
    offloads: NetworkOffloads = .checksums, maximumTransferUnit: UInt16 = 1500, deliversValidChecksums: Bool = false
  ) {
    self.offloads = offloads
    self.maximumTransferUnit = maximumTransferUnit
    self.deliversValidChecksums = deliversValidChecksums
  }

  deinit { Glibc.close(eventDescriptor) }

  var isUp: Bool { state.withLock { $0.isUp } }
  var sent: [Sent] { state.withLock { $0.sent } }
  var incomingCount: Int { state.withLock { $0.incoming.count } }
  var wantsFrames: Bool { state.withLock { $0.wantsFrames } }
  var guestOffloads: NetworkOffloads? { state.withLock { $0.guestOffloads } }

  var takesPart: Bool { state.withLock { $0.takesPart } }

  func set(isUp: Bool) { change { $0.isUp = isUp } }
  func set(isFull: Bool) { change { $0.isFull = isFull } }
  func forgetSent() { state.withLock { $0.sent = [] } }

  func deliver(_ bytes: [UInt8], _ header: NetworkFrameHeader = .init()) {
    change { $0.incoming.append(Sent(bytes: bytes, header: header)) }
  }

  private func change(_ body: (inout State) -> Void) {
    state.withLock { body(&$0) }
    eventfd_write(eventDescriptor, 1)
  }

  func settle() {
    var count: eventfd_t = 0
    eventfd_read(eventDescriptor, &count)
  }

  func setWantsFrames(_ wants: Bool) { state.withLock { $0.wantsFrames = wants } }
  func setTakesPart(_ takesPart: Bool) { state.withLock { $0.takesPart = takesPart } }
  func setGuestOffloads(_ offloads: NetworkOffloads) { state.withLock { $0.guestOffloads = offloads } }

  func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool {
    state.withLock { state in
      guard !state.isFull else { return false }
      var bytes = [UInt8](repeating: 0, count: frame.byteCount)
      _ = bytes.withUnsafeMutableBytes { frame.read(into: $0) }
      if state.sent.count < 64 { state.sent.append(Sent(bytes: bytes, header: header)) }
      return true
    }
  }

  func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {
    while let first = state.withLock({ $0.takesPart ? $0.incoming.first : nil }) {
      guard first.bytes.withUnsafeBytes({ take($0, first.header) }) else { return }
      state.withLock { _ = $0.incoming.removeFirst() }
    }
  }

  func close() {}
}
