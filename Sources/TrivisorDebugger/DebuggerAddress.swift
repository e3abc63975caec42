import Glibc
import TrivisorVMM

/// Where a debugger finds the machine, and whether the machine waits for it: `PORT` or `unix:PATH`, then `,wait`, and `,i386` or
/// `,x86-64` where the guest's architecture can't be told from its image.
public struct DebuggerAddress: Sendable {
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
  private let words: TrailingWords

  private static let vocabulary = TrailingWords.Vocabulary(
    ["wait", "i386", "x86-64"], alternatives: ["i386", "x86-64"])

  /// - Throws: `DebuggerFailure` saying what is wrong with the text.
  public init(_ text: String) throws(DebuggerFailure) {
    do throws(TrailingWords.Failure) {
      words = try TrailingWords(text, Self.vocabulary)
    } catch {
      throw DebuggerFailure(error.description)
    }
    waits = words.has("wait")
    architecture = words.has("i386") ? .i386 : words.has("x86-64") ? .x86_64 : nil
    let rest = words.rest
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

  /// For people's input: a socket's name of which a word may be mistyped.
  /// - Throws: `DebuggerFailure` if there is no socket of this name, and what stands behind its last comma is no word.
  public func refuseUnknownWord() throws(DebuggerFailure) {
    guard case .socket(let path) = place, access(path, F_OK) != 0 else { return }
    do throws(TrailingWords.Failure) {
      try words.refuseUnknown()
    } catch {
      throw DebuggerFailure(error.description)
    }
  }
}

/// Why there is no place for a debugger.
public struct DebuggerFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// One sentence, without a full stop.
  public let description: String

  init(_ description: String) { self.description = description }
}
