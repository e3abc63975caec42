import Glibc

/// Lines for the person at the terminal: on standard error, each with the program's name.
enum Diagnostics {
  /// One sentence, without a newline.
  static func say(_ message: String) {
    write("trivisor: " + message + "\n", to: STDERR_FILENO)
  }

  /// Text for standard output.
  static func print(_ text: String) {
    write(text + "\n", to: STDOUT_FILENO)
  }

  /// Text for the terminal on standard error as it is.
  static func draw(_ text: String) {
    write(text, to: STDERR_FILENO)
  }

  /// All of `text`, past interruptions and short writes; what can't be written is dropped.
  private static func write(_ text: String, to descriptor: Int32) {
    var remaining = Array(text.utf8)[...]
    while !remaining.isEmpty {
      let count = remaining.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        remaining = remaining.dropFirst(count)
      } else if errno != EINTR {
        return
      }
    }
  }
}

/// Ends the process through the parser with a status, after the one sentence that says why.
struct Refusal: Error {
  /// What the process ends with.
  let status: ExitStatus
  /// One sentence.
  let message: String
}
