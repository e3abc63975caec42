import TrivisorCLinux
import Glibc
import Synchronization
import TrivisorVMM

/// A queue of a virtio device, shared between the transport, which sets it up, and the device's thread, which empties it.
///
/// The lock is held while a request is handled: taking the queue away from the device waits for the request at hand, so
/// that after a reset nothing is written to memory that the driver may already use for something else.
public final class VirtioQueue: Sendable {
  /// What became of a request.
  enum Disposition {
    /// Done; so many bytes were stored to its writable part.
    case completed(written: UInt32)
    /// There is nothing to do with it yet; it stays the next one.
    case later
    /// Not a request that this type of device knows: the driver's fault.
    case malformed
  }

  // Unchecked: the pieces' room is this value's alone, and the mutex guards the value.
  private struct State: ~Copyable, @unchecked Sendable {
    var ring: SplitRing?
    let pieces: UnsafeMutablePointer<iovec> = .allocate(capacity: SplitRing.maximumChainLength)

    deinit { pieces.deallocate() }
  }

  /// Which of the device's queues.
  public let index: Int
  /// The largest size that the driver may choose.
  public let maximumSize: UInt16

  private let host: VirtioHost
  private let state = Mutex(State())

  init(index: Int, maximumSize: UInt16, host: VirtioHost) {
    self.index = index
    self.maximumSize = maximumSize
    self.host = host
  }

  var isEnabled: Bool { state.withLock { $0.ring != nil } }

  func enable(_ ring: SplitRing) { state.withLock { $0.ring = ring } }

  /// Where the device is in it, between two requests; `nil` if the queue is not in use.
  var progress: SplitRing.Progress? { state.withLock { $0.ring?.progress } }

  /// Waits for a request that is being handled.
  func disable() { state.withLock { $0.ring = nil } }

  /// Handles requests until there are none, or the first that is for later. Breaks the device at the first fault.
  ///
  /// - Parameter body: must not use this queue.
  func drain(_ body: (inout DescriptorChain) -> Disposition) {
    while step(body) {}
  }

  /// Hands the whole ring over, if the driver has given it, and tells the driver afterwards of what was completed meanwhile.
  /// Breaks the device at a fault.
  ///
  /// - Parameter body: must not use this queue.
  /// - Returns: whether the queue is in use, and goes on to be.
  @discardableResult
  func batch(_ body: (inout SplitRing, UnsafeMutablePointer<iovec>) throws(VirtioFault) -> Void) -> Bool {
    state.withLock { state in
      guard var ring = state.ring, host.status.load(ordering: .acquiring) & VirtioHost.Status.driverOK != 0,
        !host.isBroken, host.mayUseMemory.load(ordering: .acquiring)
      else { return false }
      do throws(VirtioFault) { try body(&ring, state.pieces) } catch { host.fail(error) }
      if ring.takeInterruptWish() { host.notifyUsed(queue: index) }
      state.ring = ring
      return !host.isBroken
    }
  }

  /// Handles one request. Whether there may be another.
  private func step(_ body: (inout DescriptorChain) -> Disposition) -> Bool {
    state.withLock { state in
      guard state.ring != nil, host.status.load(ordering: .acquiring) & VirtioHost.Status.driverOK != 0,
        !host.isBroken, host.mayUseMemory.load(ordering: .acquiring)
      else { return false }
      do throws(VirtioFault) {
        guard var chain = try state.ring?.next(storage: state.pieces) else {
          return state.ring?.requestNotification() ?? false
        }
        // Handling the request uses the pieces up.
        let watch = state.ring?.memory.watch
        let room = watch?.isActive ?? false ? chain.writable.pieces : []
        let disposition = body(&chain)
        for piece in room {
          if let base = piece.iov_base { watch?.stored(at: base, count: piece.iov_len) }
        }
        switch disposition {
        case .completed(let written):
          state.ring?.suppressNotifications()
          state.ring?.complete(chain.head, written: written)
          if state.ring?.takeInterruptWish() ?? false { host.notifyUsed(queue: index) }
          return true
        case .later:
          return false
        case .malformed:
          throw .malformedRequest
        }
      } catch {
        host.fail(error)
        return false
      }
    }
  }
}
