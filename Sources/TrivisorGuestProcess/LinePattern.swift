import Glibc

/// An extended regular expression as in POSIX, for one line at a time.
public final class LinePattern {
  /// A pattern that can't be understood.
  public struct Failure: Error, Sendable, CustomStringConvertible {
    /// One sentence.
    public let description: String
  }

  private var compiled = regex_t()

  /// - Throws: `Failure` with what regcomp(3) says.
  public init(_ pattern: String) throws(Failure) {
    let error = regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB)
    guard error != 0 else { return }
    var text = [CChar](repeating: 0, count: 256)
    regerror(error, &compiled, &text, text.count)
    let reason = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    throw Failure(description: "the pattern '\(pattern)' is no extended regular expression: \(reason)")
  }

  deinit { regfree(&compiled) }

  /// Whether some part of the line matches.
  public func matches(_ line: ArraySlice<UInt8>) -> Bool {
    (line + [0]).withUnsafeBytes { bytes in
      guard let start = bytes.bindMemory(to: CChar.self).baseAddress else { return false }
      return regexec(&compiled, start, 0, nil, 0) == 0
    }
  }
}
