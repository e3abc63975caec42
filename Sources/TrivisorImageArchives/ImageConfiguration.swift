/// How an image's maker wants it run (OCI Image Format Specification, Image Configuration: `config`).
public struct ImageConfiguration: Sendable, Equatable {
  /// `NAME=value` each.
  public var environment: [String] = []
  /// Where a command begins.
  public var folder: String?
  /// `user[:group]`.
  public var user: String?
  /// A program and its first arguments.
  public var entryPoint: [String] = []
  /// Its further arguments, where nobody gives others; or the whole command.
  public var command: [String] = []

  /// Of an archive that says nothing.
  public init() {}

  /// - Parameter value: an image configuration's `config`.
  init(_ value: JSONValue?) {
    environment = (value?["Env"]?.strings ?? []).filter { $0.contains("=") }
    folder = value?["WorkingDir"]?.string.flatMap { $0.hasPrefix("/") ? $0 : nil }
    user = value?["User"]?.string.flatMap { $0.isEmpty ? nil : $0 }
    entryPoint = value?["Entrypoint"]?.strings ?? []
    command = value?["Cmd"]?.strings ?? []
  }
}
