/// A file that the boot loader puts beside the kernel.
public struct BootModule: Sendable {
  /// Its contents.
  public let image: BootImage
  /// The text that the kernel gets with it.
  public let commandLine: String

  /// - Parameter commandLine: the text that the kernel gets with it.
  public init(image: BootImage, commandLine: String = "") {
    self.image = image
    self.commandLine = commandLine
  }
}
