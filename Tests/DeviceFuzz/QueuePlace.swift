/// Where a driver has a virtqueue's three parts.
package struct QueuePlace: Sendable {
  package var index: Int
  package var size: UInt16
  package var descriptors: UInt64
  package var available: UInt64
  package var used: UInt64

  package init(
    index: Int = 0, size: UInt16 = 16, descriptors: UInt64 = 0x1_0000, available: UInt64 = 0x1_4000,
    used: UInt64 = 0x1_8000
  ) {
    (self.index, self.size) = (index, size)
    (self.descriptors, self.available, self.used) = (descriptors, available, used)
  }

  /// What is written over MMIO, and to which registers, until the queue is ready (virtio 1.2, 4.2.2).
  package var registersOverMMIO: [(register: UInt64, value: UInt64)] {
    var writes: [(register: UInt64, value: UInt64)] = [
      (MMIORegister.queueSelect, UInt64(index)), (MMIORegister.queueSize, UInt64(size)),
    ]
    for (register, address) in [
      (MMIORegister.descriptors, descriptors), (MMIORegister.available, available), (MMIORegister.used, used),
    ] {
      writes += [(register, address & 0xffff_ffff), (register + 4, address >> 32)]
    }
    return writes + [(MMIORegister.queueReady, 1)]
  }
}
