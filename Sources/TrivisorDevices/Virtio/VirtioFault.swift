import TrivisorVMM

/// Why a device needs a reset: what its driver did wrong, in all cases but the last.
public enum VirtioFault: Error, Codable, Sendable, Equatable {
  /// The queue's size is zero, not a power of two, or above what was offered.
  case unusableSize(UInt64)
  /// A table is not wholly in guest memory, or not aligned as it must be.
  case unusableTable(GuestPhysicalAddress)
  /// Size or address was written while the queue was in use.
  case changedWhileInUse
  /// More heads were published than the ring holds.
  case overrun(UInt16)
  /// A head, or a descriptor's successor, is no index of its table.
  case indexOutOfRange(UInt16)
  /// A chain goes in circles, or is longer than any that is allowed.
  case chainTooLong
  /// An indirect table that was not negotiated, lies within another, has a successor, or has an impossible length.
  case unusableIndirectTable
  /// A buffer is not wholly in guest memory.
  case bufferOutsideMemory(GuestPhysicalAddress, UInt32)
  /// A buffer that the device reads comes after one that it writes.
  case readableAfterWritable
  /// A request without the parts that its device type needs.
  case malformedRequest
  /// The host gave the device no thread.
  case noThread
}
