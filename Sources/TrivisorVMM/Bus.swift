// The port and memory buses: from an address to a device.
//
// The map is made once, checked for overlaps, and never changes while processors run, so a look-up takes no lock and
// allocates nothing: a binary search in a sorted list of a dozen ranges, then a call.
//
// What no device claims reads as ones and swallows writes, as on a PC. An access that begins in a device and runs out
// of it is split into bytes, each answered by whoever owns its address.

/// Where accesses of the guest go that are not to RAM.
public final class Bus: Sendable {
  /// A device and the ports that it answers.
  public struct PortClaim: Sendable {
    /// For messages: "serial COM1".
    public let label: String
    /// Its first port.
    public let base: UInt16
    /// How many ports.
    public let count: UInt16
    /// Who answers.
    public let device: any PortDevice

    /// - Parameter count: ports from `base`; at least one, not past port 0xffff (else `Bus.init` refuses).
    public init(_ label: String, base: UInt16, count: UInt16, device: any PortDevice) {
      self.label = label
      self.base = base
      self.count = count
      self.device = device
    }
  }

  /// A device and the guest physical range that it answers.
  public struct MemoryClaim: Sendable {
    /// For messages: "virtio-mmio 0".
    public let label: String
    /// Its first address.
    public let base: GuestPhysicalAddress
    /// Its length in bytes.
    public let size: UInt64
    /// Who answers.
    public let device: any MemoryDevice

    /// - Parameter size: bytes from `base`; at least one, not past the end of the space (else `Bus.init` refuses).
    public init(_ label: String, base: GuestPhysicalAddress, size: UInt64, device: any MemoryDevice) {
      self.label = label
      self.base = base
      self.size = size
      self.device = device
    }
  }

  private let portClaims: [PortClaim]
  private let memoryClaims: [MemoryClaim]
  private let ports: RangeMap<any PortDevice>
  private let memory: RangeMap<any MemoryDevice>

  /// - Throws: `BusConflict` when two claims overlap, or one is empty or leaves the address space.
  public init(ports: [PortClaim] = [], memory: [MemoryClaim] = []) throws(BusConflict) {
    portClaims = ports
    memoryClaims = memory
    self.ports = try RangeMap(
      ports.map { .init(label: $0.label, base: UInt64($0.base), size: UInt64($0.count), device: $0.device) },
      limit: 0xffff)
    self.memory = try RangeMap(
      memory.map { .init(label: $0.label, base: $0.base.rawValue, size: $0.size, device: $0.device) },
      limit: .max)
  }

  /// A bus with more on it: a technique's own chips.
  /// - Throws: `BusConflict` when one is where another is.
  public func adding(ports: [PortClaim] = [], memory: [MemoryClaim] = []) throws(BusConflict) -> Bus {
    try Bus(ports: portClaims + ports, memory: memoryClaims + memory)
  }

  /// The `in` instruction. `width` is at most a doubleword on x86; the upper half of a wider one reads as ones.
  public func readPort(_ port: UInt16, width: AccessWidth) -> UInt32 {
    if let entry = ports.find(UInt64(port), width: width) {
      return entry.device.read(at: UInt16(truncatingIfNeeded: UInt64(port) &- entry.base), width: width)
        & UInt32(truncatingIfNeeded: width.allOnes)
    }
    guard width != .byte, ports.touches(UInt64(port), width: width) else {
      return UInt32(truncatingIfNeeded: width.allOnes)
    }
    var value: UInt32 = 0
    for byte in 0..<min(width.rawValue, 4) {
      value |= readPort(port &+ UInt16(byte), width: .byte) << UInt32(8 * byte)
    }
    return value
  }

  /// The `out` instruction.
  public func writePort(_ port: UInt16, _ value: UInt32, width: AccessWidth) -> DeviceEffect {
    let value = value & UInt32(truncatingIfNeeded: width.allOnes)
    if let entry = ports.find(UInt64(port), width: width) {
      return entry.device.write(value, at: UInt16(truncatingIfNeeded: UInt64(port) &- entry.base), width: width)
    }
    guard width != .byte, ports.touches(UInt64(port), width: width) else { return .none }
    for byte in 0..<min(width.rawValue, 4) {
      let effect = writePort(port &+ UInt16(byte), value >> UInt32(8 * byte) & 0xff, width: .byte)
      if effect != .none { return effect }
    }
    return .none
  }

  /// A load from outside RAM.
  public func readMemory(_ address: GuestPhysicalAddress, width: AccessWidth) -> UInt64 {
    if let entry = memory.find(address.rawValue, width: width) {
      return entry.device.read(at: address.rawValue &- entry.base, width: width) & width.allOnes
    }
    guard width != .byte, memory.touches(address.rawValue, width: width) else { return width.allOnes }
    var value: UInt64 = 0
    for byte in 0..<width.rawValue {
      let next = GuestPhysicalAddress(address.rawValue &+ UInt64(byte))
      value |= readMemory(next, width: .byte) << UInt64(8 * byte)
    }
    return value
  }

  /// A store to outside RAM.
  public func writeMemory(_ address: GuestPhysicalAddress, _ value: UInt64, width: AccessWidth) -> DeviceEffect {
    let value = value & width.allOnes
    if let entry = memory.find(address.rawValue, width: width) {
      return entry.device.write(value, at: address.rawValue &- entry.base, width: width)
    }
    guard width != .byte, memory.touches(address.rawValue, width: width) else { return .none }
    for byte in 0..<width.rawValue {
      let next = GuestPhysicalAddress(address.rawValue &+ UInt64(byte))
      let effect = writeMemory(next, value >> UInt64(8 * byte) & 0xff, width: .byte)
      if effect != .none { return effect }
    }
    return .none
  }
}

/// Two devices were put at the same place: a mistake in the machine's assembly, told before it starts.
public struct BusConflict: Error, Sendable, CustomStringConvertible {
  /// One sentence naming both devices and the addresses.
  public let description: String
}

/// Disjoint ranges in ascending order, each with its device.
struct RangeMap<Device: Sendable>: Sendable {
  struct Entry: Sendable {
    let label: String
    let base: UInt64
    let size: UInt64
    let device: Device
    var last: UInt64 { base &+ (size &- 1) }
  }

  private let entries: [Entry]

  /// - Parameter limit: the last address of the space.
  init(_ unsorted: [Entry], limit: UInt64) throws(BusConflict) {
    for entry in unsorted where entry.size == 0 || entry.base > limit || entry.size - 1 > limit - entry.base {
      throw BusConflict(
        description: "\(entry.label): \(entry.size) addresses from \(hexadecimal(entry.base)) leave the bus")
    }
    let sorted = unsorted.sorted { $0.base < $1.base }
    for (lower, upper) in zip(sorted, sorted.dropFirst()) where lower.last >= upper.base {
      throw BusConflict(
        description:
          "\(lower.label) at \(hexadecimal(lower.base)) and \(upper.label) at \(hexadecimal(upper.base)) overlap")
    }
    entries = sorted
  }

  /// The entry that holds all of the access.
  func find(_ address: UInt64, width: AccessWidth) -> Entry? {
    guard let entry = nearest(address), address <= entry.last else { return nil }
    return UInt64(width.rawValue - 1) <= entry.last - address ? entry : nil
  }

  /// Whether any byte of the access belongs to an entry.
  func touches(_ address: UInt64, width: AccessWidth) -> Bool {
    let (last, overflow) = address.addingReportingOverflow(UInt64(width.rawValue - 1))
    guard let entry = nearest(overflow ? .max : last) else { return false }
    return entry.last >= address || overflow
  }

  /// The entry with the greatest base at or below `address`.
  private func nearest(_ address: UInt64) -> Entry? {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].base <= address { low = middle + 1 } else { high = middle }
    }
    return low == 0 ? nil : entries[low - 1]
  }
}
