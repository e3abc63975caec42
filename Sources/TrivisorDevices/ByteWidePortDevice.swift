import TrivisorVMM

/// A device whose registers are all one byte wide, as on the ISA bus.
///
/// A wider access becomes one access a byte, lowest port first, as the bus of a PC splits it. Only what lies within the
/// device's ports arrives here: the machine's bus sees to it.
protocol ByteWidePortDevice: PortDevice {
  func readByte(at offset: UInt16) -> UInt8
  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect
}

extension ByteWidePortDevice {
  /// One byte a port, the lowest in the low bits.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    var value: UInt32 = 0
    for byte in 0..<min(width.rawValue, 4) {
      value |= UInt32(readByte(at: offset &+ UInt16(byte))) << UInt32(8 * byte)
    }
    return value
  }

  /// One byte a port, the low bits to the lowest, until one of them has an effect.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    for byte in 0..<min(width.rawValue, 4) {
      let part = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))
      let effect = writeByte(part, at: offset &+ UInt16(byte))
      if effect != .none { return effect }
    }
    return .none
  }
}
