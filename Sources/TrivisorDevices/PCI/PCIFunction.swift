import TrivisorVMM

/// A function of a device on a PCI bus. Called by any processor's thread.
public protocol PCIFunction: AnyObject, Sendable {
  /// A register of the configuration space, or a part of one.
  /// - Parameters:
  ///   - offset: below 256, a multiple of the width.
  ///   - width: at most a doubleword.
  func readConfiguration(at offset: Int, width: AccessWidth) -> UInt32
  /// The same, written.
  func writeConfiguration(_ value: UInt32, at offset: Int, width: AccessWidth)
  /// What lies behind a base address register.
  /// - Parameters:
  ///   - region: the register's index.
  ///   - offset: from its beginning; all of the access is within its size.
  func readRegion(_ region: Int, at offset: UInt64, width: AccessWidth) -> UInt64
  /// The same, written.
  func writeRegion(_ value: UInt64, _ region: Int, at offset: UInt64, width: AccessWidth) -> DeviceEffect
}
