import TrivisorVMM

/// A PC's way of x87 errors, where CR0.NE is 0: the processor's FERR# asserts interrupt line 13 until the handler writes to port 0xf0 (Intel
/// 82371FB data sheet, "Coprocessor Error Support").
public final class FloatingPointErrorPorts: ByteWidePortDevice {
  /// Coprocessor error, and reset, which does the same here.
  static let conventionalPort: UInt16 = 0xf0
  static let portCount: UInt16 = 2
  /// Whoever finds an error asserts it.
  public static let interruptLine = 13

  private let chipset: Chipset

  init(chipset: Chipset) { self.chipset = chipset }

  func readByte(at offset: UInt16) -> UInt8 { .max }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    chipset.setLine(Self.interruptLine, asserted: false)
    return .none
  }
}
