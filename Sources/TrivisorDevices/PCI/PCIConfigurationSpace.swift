// A function's configuration space as a value: bytes, which of their bits can be written, and the base address registers.
//
// Source: PCI Local Bus Specification 3.0, chapter 6.

import TrivisorVMM

/// What a function's type-0 header holds.
struct PCIConfigurationSpace: Sendable {
  /// What a function is.
  struct Identity: Sendable {
    var vendor: UInt16
    var device: UInt16
    /// Base class, sub-class, programming interface.
    var classCode: UInt32
    var revision: UInt8 = 0
    var subsystemVendor: UInt16 = 0
    var subsystem: UInt16 = 0
    /// Whether the device has more functions than its first.
    var isMultifunction = false
    /// 1 for INTA# to 4; 0 for none.
    var interruptPin: UInt8 = 0
  }

  /// Base address registers.
  static let regionCount = 6

  private(set) var bytes = [UInt8](repeating: 0, count: PCIRegister.spaceSize)
  private var writable = [UInt8](repeating: 0, count: PCIRegister.spaceSize)
  /// By base address register; zero for those that are not there. Powers of two.
  private(set) var regionSizes = [UInt32](repeating: 0, count: regionCount)
  private var nextCapability = 0x40
  private var lastLink = PCIRegister.capabilities

  init(_ identity: Identity) {
    set(UInt32(identity.vendor), at: PCIRegister.vendorID, count: 2)
    set(UInt32(identity.device), at: PCIRegister.deviceID, count: 2)
    set(UInt32(identity.revision), at: PCIRegister.revisionID, count: 1)
    set(identity.classCode, at: PCIRegister.classCode, count: 3)
    set(identity.isMultifunction ? 0x80 : 0, at: PCIRegister.headerType, count: 1)
    set(UInt32(identity.subsystemVendor), at: PCIRegister.subsystemVendorID, count: 2)
    set(UInt32(identity.subsystem), at: PCIRegister.subsystemID, count: 2)
    set(UInt32(identity.interruptPin), at: PCIRegister.interruptPin, count: 1)
    allowWriting(UInt32(PCICommand.all.rawValue), at: PCIRegister.command, count: 2)
    // A note of the firmware's to the kernel: no controller that a PC/AT has is at the pin's other end.
    set(0xff, at: PCIRegister.interruptLine, count: 1)
    allowWriting(0xff, at: PCIRegister.interruptLine, count: 1)
  }

  // MARK: How it is made

  mutating func set(_ value: UInt32, at offset: Int, count: Int) {
    for index in 0..<count where bytes.indices.contains(offset + index) {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
    }
  }

  mutating func allowWriting(_ bits: UInt32, at offset: Int, count: Int) {
    for index in 0..<count where writable.indices.contains(offset + index) {
      writable[offset + index] = UInt8(truncatingIfNeeded: bits >> UInt32(8 * index))
    }
  }

  /// A 32-bit memory region that is not prefetchable (PCI 3.0, 6.2.5.1).
  /// - Parameters:
  ///   - size: a power of two, at least 16.
  ///   - address: where firmware would have put it: a multiple of the size.
  mutating func addRegion(_ index: Int, size: UInt32, at address: UInt32) {
    guard regionSizes.indices.contains(index) else { return }
    regionSizes[index] = size
    set(address, at: PCIRegister.baseAddress + 4 * index, count: 4)
    allowWriting(~(size &- 1), at: PCIRegister.baseAddress + 4 * index, count: 4)
  }

  /// Adds a capability to the list.
  /// - Parameter content: what follows its type and link.
  /// - Returns: where it is.
  @discardableResult
  mutating func addCapability(_ type: UInt8, _ content: [UInt8]) -> Int {
    let place = nextCapability
    set(UInt32(place), at: lastLink, count: 1)
    lastLink = place + 1
    bytes[place] = type
    for (index, byte) in content.enumerated() where bytes.indices.contains(place + 2 + index) {
      bytes[place + 2 + index] = byte
    }
    nextCapability = (place + 2 + content.count + 3) & ~3
    set(UInt32(PCIStatus.capabilitiesList), at: PCIRegister.status, count: 2)
    return place
  }

  // MARK: Accesses

  func read(at offset: Int, width: AccessWidth) -> UInt32 {
    guard offset >= 0, offset + width.rawValue <= bytes.count else { return UInt32(truncatingIfNeeded: width.allOnes) }
    var value: UInt32 = 0
    for index in 0..<min(width.rawValue, 4) { value |= UInt32(bytes[offset + index]) << UInt32(8 * index) }
    return value
  }

  mutating func write(_ value: UInt32, at offset: Int, width: AccessWidth) {
    guard offset >= 0, offset + width.rawValue <= bytes.count else { return }
    for index in 0..<min(width.rawValue, 4) {
      let mask = writable[offset + index]
      let byte = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
      bytes[offset + index] = bytes[offset + index] & ~mask | byte & mask
    }
  }

  var command: PCICommand {
    PCICommand(rawValue: UInt16(truncatingIfNeeded: read(at: PCIRegister.command, width: .word)))
  }

  /// Where a region is, if the function answers there. A register that holds zero or its size's mask, as while it is being
  /// sized, is where nothing else can be either: whoever decodes looks at the window.
  func place(ofRegion index: Int) -> UInt32? {
    guard command.contains(.memorySpace), regionSizes.indices.contains(index), regionSizes[index] > 0 else {
      return nil
    }
    return read(at: PCIRegister.baseAddress + 4 * index, width: .doubleword) & ~(regionSizes[index] &- 1)
  }

  // MARK: Saved form

  /// The doublewords of which something can be written, in their order, without their other bits.
  func save() -> [UInt32] { writableOffsets.map { read(at: $0, width: .doubleword) & writableBits(at: $0) } }

  private var writableOffsets: [Int] { stride(from: 0, to: bytes.count, by: 4).filter { writableBits(at: $0) != 0 } }

  private func writableBits(at offset: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(writable[offset + $1]) << UInt32(8 * $1) }
  }

  /// - Throws: `RestoreFailure` for bits that can't be written; nothing has changed then.
  mutating func restore(_ saved: [UInt32]) throws(RestoreFailure) {
    let offsets = writableOffsets
    try restoring(
      "PCI function",
      requires: saved.count == offsets.count && zip(saved, offsets).allSatisfy { $0 & ~writableBits(at: $1) == 0 },
      "its configuration space has bits that can't be written")
    for (value, offset) in zip(saved, offsets) { write(value, at: offset, width: .doubleword) }
  }
}
