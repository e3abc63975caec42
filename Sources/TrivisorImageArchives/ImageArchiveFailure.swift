/// Why an archive or an image can't be a guest's root.
public struct ImageArchiveFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// Whether the host lacks something; otherwise it is the archive.
  public let isHosts: Bool
  /// One clause: what is wrong, and what to do.
  public let description: String

  init(_ description: String, isHosts: Bool = false) {
    self.description = description
    self.isHosts = isHosts
  }
}
