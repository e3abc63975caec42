import TrivisorVMM

/// What a PC's firmware leaves behind for kernels that want to know where conventional memory ends, to put code that
/// begins in real mode below it: Xen reads nothing else, Linux reads it before the memory map.
///
/// IBM Personal System/2 and Personal Computer BIOS Interface Technical Reference, "ROM BIOS Data Area" and "Extended
/// BIOS Data Area".
enum BIOSDataArea {
  /// Of two bytes: the segment of the extended BIOS data area, which follows conventional memory.
  private static let extendedSegment: UInt64 = 0x40e
  /// Of two bytes: conventional memory in KiB, what INT 12h says.
  private static let conventionalSize: UInt64 = 0x413
  /// Of one byte, in KiB: how large the extended BIOS data area is, in its first byte.
  private static let extendedSize = UInt8(truncatingIfNeeded: (0xa_0000 - MemoryMap.conventionalEnd) >> 10)

  /// Stores it, as far as there is memory.
  static func store(in memory: GuestMemory) {
    put(UInt16(truncatingIfNeeded: MemoryMap.conventionalEnd >> 4), at: extendedSegment, memory)
    put(UInt16(truncatingIfNeeded: MemoryMap.conventionalEnd >> 10), at: conventionalSize, memory)
    put(extendedSize, at: MemoryMap.conventionalEnd, memory)
  }

  private static func put<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, at address: UInt64, _ memory: GuestMemory
  ) {
    let size = MemoryLayout<Value>.size
    memory.host(GuestPhysicalAddress(address), count: UInt64(size))?.storeBytes(of: value.littleEndian, as: Value.self)
  }
}
