/// A piece of guest memory that guest code reads at an address of the upper half, where the host gives a process nothing: the process
/// itself carries out loads of quadwords there.
public struct UpperWindow: Sendable, Equatable {
  /// Where guest code reads it.
  public let address: UInt64
  /// In bytes, a multiple of the page size.
  public let size: UInt64
  /// In bytes from the start of the memory's file, a multiple of the page size.
  public let fileOffset: UInt64

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(address: UInt64, size: UInt64, fileOffset: UInt64) {
    self.address = address
    self.size = size
    self.fileOffset = fileOffset
  }
}
