import Glibc
import TrivisorCLinux
import TrivisorVMM

/// Lays frames into a driver's empty buffers: each into one, or, with a driver that takes that, into several (virtio 1.2,
/// 5.1.6.4). The driver finds all buffers of a frame at once.
struct FrameDelivery {
  let mergesBuffers: Bool
  /// How many buffers there were when they were too few.
  private(set) var tooFew: UInt16 = 0
  private var chains: [DescriptorChain] = []

  init(mergesBuffers: Bool) { self.mergesBuffers = mergesBuffers }

  /// - Returns: whether the frame is done with; if not, the driver has to give more buffers. One that can't fit into what
  ///   such a driver gives is lost.
  mutating func lay(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkFrameHeader, into ring: inout SplitRing,
    _ pieces: UnsafeMutablePointer<iovec>
  ) throws(VirtioFault) -> Bool {
    let total = NetworkFrameHeader.size + frame.count
    var room = 0
    var pieceCount = 0
    chains.removeAll(keepingCapacity: true)
    while room < total {
      let count = UInt16(chains.count)
      guard
        let chain = try ring.request(
          count, storage: pieces + pieceCount, room: SplitRing.maximumChainLength - pieceCount)
      else {
        tooFew = count
        return count >= ring.capacity
      }
      guard count > 0 || chain.writable.byteCount >= NetworkFrameHeader.size else { throw .malformedRequest }
      room += chain.writable.byteCount
      pieceCount += Int(chain.readable.vectors.count + chain.writable.vectors.count)
      chains.append(chain)
      if !mergesBuffers, room < total { return true }
    }
    store(frame, header, &ring)
    return true
  }

  private mutating func store(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkFrameHeader, _ ring: inout SplitRing
  ) {
    let watch = ring.memory.watch
    var position = 0
    for index in chains.indices {
      let stored = watch.isActive ? chains[index].writable.pieces : []
      var written = 0
      if index == 0 {
        written = withUnsafeTemporaryAllocation(byteCount: NetworkFrameHeader.size, alignment: 2) { bytes in
          header.store(to: bytes, bufferCount: UInt16(chains.count))
          return chains[index].writable.write(UnsafeRawBufferPointer(bytes))
        }
      }
      let part = chains[index].writable.write(UnsafeRawBufferPointer(rebasing: frame[position...]))
      position += part
      for piece in stored {
        if let base = piece.iov_base { watch.stored(at: base, count: piece.iov_len) }
      }
      ring.use(chains[index].head, written: UInt32(written + part))
    }
    ring.publishUsed()
  }
}
