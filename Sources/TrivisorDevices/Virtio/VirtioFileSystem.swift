// A virtio file system device (virtio 1.2, 5.11): requests of the FUSE protocol in buffers of the driver's.
//
// Queue 0 is for what must not wait behind other requests: what the guest forgets. One thread serves both, so a request is
// never under way when another one is looked at. No part of a file is mapped into the guest (no DAX window).

import TrivisorFileServer
import Synchronization
import TrivisorVMM

/// A folder of the host's.
public final class VirtioFileSystem: VirtioDevice {
  /// Bytes of the name by which a guest mounts it.
  public static let tagLength = 36

  // Unchecked: the mutex guards it.
  private struct Holder: @unchecked Sendable {
    let server: FileServer
  }

  private let server: Mutex<Holder>
  private let space: [UInt8]

  /// - Parameters:
  ///   - server: this device's alone.
  ///   - tag: cut to `tagLength` bytes of UTF-8.
  public init(_ server: sending FileServer, tag: String) {
    self.server = Mutex(Holder(server: server))
    let text = Array(tag.utf8.prefix(Self.tagLength))
    // The tag, then the number of request queues.
    space = text + [UInt8](repeating: 0, count: Self.tagLength - text.count) + [1, 0, 0, 0]
  }

  /// File system.
  public let deviceID = VirtioDeviceID.fileSystem
  /// None of its own.
  public let features: VirtioFeatures = []
  /// Linux bounds a request by the queue's size: 256 pages and what surrounds them.
  public let queueSizes: [UInt16] = [128, 1024]

  /// Tag and number of queues.
  public func configuration(at offset: UInt64) -> UInt8 {
    offset < UInt64(space.count) ? space[Int(offset)] : 0
  }

  /// Nothing to keep.
  public func attach(to host: VirtioHost) {}

  /// Nothing to prepare.
  public func start(features: VirtioFeatures) {}

  /// What the driver had open is closed.
  public func reset() { server.withLock { $0.server.reset() } }

  /// Carries out requests.
  public func process(_ queue: VirtioQueue) {
    queue.drain { chain in
      switch server.withLock({ $0.server.answer(&chain.readable, &chain.writable) }) {
      case .completed(let written): .completed(written: written)
      case .malformed: .malformed
      }
    }
  }

  /// What the driver knows of the folder.
  public func save() -> VirtioDeviceState { .fileSystem(server.withLock { $0.server.save() }) }

  /// - Throws: `RestoreFailure` for another device's state, or one that fits no such folder.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .fileSystem(let state) = saved else { throw RestoreFailure("file system", "it is another device's") }
    let failure: RestoreFailure? = server.withLock { holder in
      do throws(RestoreFailure) { try holder.server.restore(state) } catch { return error }
      return nil
    }
    if let failure { throw failure }
    return false
  }
}
