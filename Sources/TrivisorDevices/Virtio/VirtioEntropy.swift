import TrivisorCLinux
import Glibc
import TrivisorVMM

/// A source of random numbers (virtio 1.2, 5.4): what the host's getrandom(2) gives.
public final class VirtioEntropy: VirtioDevice {
  /// Bytes given for one request; a driver that asks for more gets less, as it may.
  private static let requestMaximum = 1 << 16

  /// A device without state.
  public init() {}

  /// Entropy.
  public let deviceID = VirtioDeviceID.entropy
  /// None of its own.
  public let features: VirtioFeatures = []
  /// One request queue.
  public let queueSizes: [UInt16] = [64]

  /// There is none.
  public func configuration(at offset: UInt64) -> UInt8 { 0 }

  /// Nothing to keep.
  public func attach(to host: VirtioHost) {}

  /// Nothing to prepare.
  public func start(features: VirtioFeatures) {}

  /// Nothing to forget.
  public func reset() {}

  /// Fills buffers.
  public func process(_ queue: VirtioQueue) {
    queue.drain { chain in
      var done = 0
      while done < Self.requestMaximum, chain.writable.byteCount > 0 {
        let piece = chain.writable.vectors.pointer.pointee
        let given = getrandom(piece.iov_base, min(piece.iov_len, Self.requestMaximum - done), 0)
        if given < 0, errno == EINTR { continue }
        guard given > 0 else { break }
        chain.writable.removeFirst(given)
        done += given
      }
      return .completed(written: UInt32(done))
    }
  }
}

extension VirtioEntropy {
  /// There is nothing.
  public func save() -> VirtioDeviceState { .entropy }

  /// - Throws: `RestoreFailure` for another type's.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    try restoring("entropy device", requires: saved == .entropy, "it is another device's")
    return false
  }
}
