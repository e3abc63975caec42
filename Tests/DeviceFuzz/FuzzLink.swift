import Glibc
import Synchronization
import TrivisorCLinux
import TrivisorVMM

/// A link whose other end is made of nothing: as a tap interface, it leaves to the guest what the guest takes over, and is full, down
/// or silent at times.
final class FuzzLink: NetworkLink {
  private struct State {
    /// Frames that wait, by their lengths.
    var incoming: [Int] = []
    var isFull = false
    var isUp = true
    var takesPart = true
  }

  private static let capacity = 8
  private let state = Mutex(State())
  private let content = [UInt8](repeating: 0x78, count: 1 << 16)
  let offloads: NetworkOffloads = [.checksums, .segments4, .segments6, .congestion]
  let maximumTransferUnit: UInt16 = 65_520
  let deliversValidChecksums = true
  let eventDescriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))

  deinit { Glibc.close(eventDescriptor) }

  /// The other end does something.
  func change(_ random: inout FuzzRandom) {
    let length = random.chance(20) ? random.number(below: 65_536) : 14 + random.number(below: 1500)
    let (isFull, isUp) = (random.chance(8), random.chance(64))
    state.withLock { state in
      if state.incoming.count < Self.capacity { state.incoming.append(length) }
      state.isFull = isFull
      if isUp { state.isUp.toggle() }
    }
  }

  var isUp: Bool { state.withLock { $0.isUp } }
  func settle() {}
  func setWantsFrames(_ wants: Bool) {}
  func setTakesPart(_ takesPart: Bool) { state.withLock { $0.takesPart = takesPart } }
  func setGuestOffloads(_ offloads: NetworkOffloads) {}
  func close() {}

  func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool {
    if state.withLock({ $0.isFull }) { return false }
    withUnsafeTemporaryAllocation(byteCount: frame.byteCount, alignment: 8) { _ = frame.read(into: $0) }
    return true
  }

  func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {
    while let length = state.withLock({ $0.takesPart ? $0.incoming.first : nil }) {
      let isTaken = content.withUnsafeBytes {
        take(UnsafeRawBufferPointer(rebasing: $0[..<length]), NetworkFrameHeader())
      }
      guard isTaken else { return }
      state.withLock { _ = $0.incoming.removeFirst() }
    }
  }
}
