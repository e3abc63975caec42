import Glibc

/// Words of the command line as they were given: they need not be text.
enum RawWords {
  /// The last words, each as its bytes.
  /// - Parameter words: what the parser made of them.
  static func last(_ words: [String]) -> [[UInt8]] {
    let given = Int(CommandLine.argc) - words.count
    return words.enumerated().map { index, word in
      guard given > 0, let raw = CommandLine.unsafeArgv[given + index], String(cString: raw) == word else {
        return Array(word.utf8)
      }
      return UnsafeBufferPointer(start: raw, count: strlen(raw)).map { UInt8(bitPattern: $0) }
    }
  }
}
