import TrivisorVMM

/// Nothing at the other end: frames are lost, and none come.
public final class UnpluggedLink: NetworkLink {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init() {}

  /// Checksums.
  public let offloads: NetworkOffloads = .checksums
  /// Ethernet's.
  public let maximumTransferUnit: UInt16 = 1500
  /// Of nothing.
  public let deliversValidChecksums = false
  /// Never.
  public let isUp = false
  /// None: nothing ever happens.
  public let eventDescriptor: Int32 = -1

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func settle() {}
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func setWantsFrames(_ wants: Bool) {}
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func setGuestOffloads(_ offloads: NetworkOffloads) {}
  /// Loses it.
  public func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool { true }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool) {}
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func close() {}
}
