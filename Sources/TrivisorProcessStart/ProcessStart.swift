// Swift's side of CStart: a program that depends on this target finds its descriptors and signals in order.

import TrivisorCStart
import Glibc

/// How a program was started, and how a simple one ends.
public enum ProcessStart {
  /// The words of the command line, the program's name first. Swift's own list is empty where there is no /proc.
  public static var arguments: [String] {
    guard let vector = cstart_arguments() else { return [] }
    var words: [String] = []
    while let word = vector[words.count] { words.append(String(cString: word)) }
    return words
  }

  /// Ends a program that prints with Swift's `print`: with `status`, or with 125 and a sentence if something that it
  /// printed is lost.
  public static func end(_ status: Int32) -> Never {
    let error = cstart_close_output()
    guard error != 0 else { exit(status) }
    let name = arguments.first.flatMap { $0.split(separator: "/").last } ?? "trivisor"
    let line = "\(name): standard output can't be written: \(String(cString: strerror(error)))\n"
    _ = write(STDERR_FILENO, line, line.utf8.count)
    exit(125)
  }
}
