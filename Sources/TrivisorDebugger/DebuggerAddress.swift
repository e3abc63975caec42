import Glibc

/// Where a debugger finds the machine, and whether the machine waits for it: `PORT` or `unix:PATH`, then `,wait`, and `,i386` or
/// `,x86-64` where the guest's architecture can't be told from its image.
public struct DebuggerAddress: Sendable, Equatable {
  /// A port of this host's loopback address, or a socket in the file system.
  public enum Place: Sendable, Equatable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case port(UInt16)
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case socket(path: String)
  }

  /// Where.
  public let place: Place
  /// The guest's first instruction waits for the debugger.
  public let waits: Bool
  let architecture: RegisterSet.Architecture?

  /// - Throws: `DebuggerFailure` saying what is wrong with the text.
  public init(_ text: String) throws(DebuggerFailure) {
    var rest = Substring(text)
    var (waits, architecture): (Bool, RegisterSet.Architecture?) = (false, nil)
    while true {
      if rest.hasSuffix(",wait") {
        waits = true
        rest = rest.dropLast(5)
      } else if rest.hasSuffix(",i386") {
        architecture = .i386
        rest = rest.dropLast(5)
      } else if rest.hasSuffix(",x86-64") {
        architecture = .x86_64
        rest = rest.dropLast(7)
      } else {
        break
      }
    }
    self.waits = waits
    self.architecture = architecture
    if rest.hasPrefix("unix:") {
      let path = String(rest.dropFirst(5))
      let most = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1
      guard !path.isEmpty, path.utf8.count <= most, !path.utf8.contains(0) else {
        throw DebuggerFailure("a socket's path has 1 to \(most) bytes, not \(path.utf8.count)")
      }
      place = .socket(path: path)
    } else {
      guard let port = UInt16(rest), port.description == rest else {
        throw DebuggerFailure(
          "'\(text)' is no place for a debugger: give a port from 0 (any) to 65535 or unix:PATH, and ,wait behind it to hold"
            + " the guest until the debugger is there")
      }
      place = .port(port)
    }
  }
}

/// Why there is no place for a debugger.
public struct DebuggerFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// One sentence, without a full stop.
  public let description: String

  init(_ description: String) { self.description = description }
}
