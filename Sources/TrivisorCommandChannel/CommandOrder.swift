/// What a guest is to run, and how.
///
/// On the line: flags (1 byte), columns, rows, number of words (2 bytes each, little-endian), the words and then the
/// environment, each with a closing zero; then, if there is something to be done before, an empty word and those steps.
public struct CommandOrder: Sendable, Equatable {
  /// What is run.
  public enum Command: Sendable, Equatable {
    /// By the root's shell.
    case shell(String)
    /// A program, found as execvp(3) finds it, and its arguments: exactly these bytes.
    case words([[UInt8]])
  }

  /// A terminal's columns and rows.
  public struct Size: Sendable, Equatable {
    /// Characters a line.
    public var columns: UInt16
    /// Lines.
    public var rows: UInt16

    /// Both are at least 1.
    public init(columns: UInt16, rows: UInt16) {
      self.columns = columns
      self.rows = rows
    }

    /// From a frame's contents; `nil` if they are none.
    public init?(_ bytes: [UInt8]) {
      guard bytes.count == 4 else { return nil }
      columns = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
      rows = UInt16(bytes[2]) | UInt16(bytes[3]) << 8
    }

    var bytes: [UInt8] {
      [columns, rows].flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }
  }

  /// Why an order can't be given.
  public struct Refusal: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence.
    public let description: String

    /// - Parameter description: one sentence.
    public init(description: String) { self.description = description }
  }

  enum Flag {
    static let terminal: UInt8 = 1
    static let installsBusybox: UInt8 = 2
    static let words: UInt8 = 4
  }

  /// Linux takes no longer word, its closing zero included (MAX_ARG_STRLEN in include/uapi/linux/binfmts.h).
  private static let wordLimit = 128 << 10
  /// What the guest's first process has room for.
  public static let sizeLimit = 512 << 10
  static let countLimit = 8000
  /// Bytes before the words.
  static let headSize = 7

  /// What is run.
  public var command: Command
  /// `NAME=value` each.
  public var environment: [String]
  /// What the guest's first process does before it begins the command (guests/linux/setup.swift): `WORD=VALUE` each.
  public var steps: [String] = []
  /// The command's terminal; without, it has pipes.
  public var terminal: Size?
  /// The root holds nothing but a busybox, whose names have to be made.
  public var installsBusybox: Bool

  /// Pipes, and a root that is as it should be.
  public init(_ command: Command, environment: [String] = [], terminal: Size? = nil, installsBusybox: Bool = false) {
    self.command = command
    self.environment = environment
    self.terminal = terminal
    self.installsBusybox = installsBusybox
  }

  /// As it goes over the line.
  /// - Throws: `Refusal` where Linux could not run it.
  public func bytes() throws(Refusal) -> [UInt8] {
    var flags: UInt8 = 0
    let words: [[UInt8]]
    switch command {
    case .shell(let text): words = [Array(text.utf8)]
    case .words(let list):
      words = list
      flags |= Flag.words
    }
    if terminal != nil { flags |= Flag.terminal }
    if installsBusybox { flags |= Flag.installsBusybox }
    guard !words.isEmpty else { throw Refusal(description: "there is no command") }
    guard words.count + environment.count + steps.count <= Self.countLimit else {
      throw Refusal(description: "the command has \(words.count) words; at most \(Self.countLimit) can be given")
    }
    var bytes = [flags] + (terminal ?? Size(columns: 0, rows: 0)).bytes
    bytes += [UInt8(truncatingIfNeeded: words.count), UInt8(truncatingIfNeeded: words.count >> 8)]
    let steps = steps.isEmpty ? [] : [[]] + steps.map { Array($0.utf8) }
    for word in words + environment.map({ Array($0.utf8) }) + steps {
      guard !word.contains(0) else { throw Refusal(description: "the command holds a zero byte") }
      guard word.count < Self.wordLimit else {
        throw Refusal(
          description: "a word of the command has \(word.count) bytes, and Linux takes \(Self.wordLimit - 1):"
            + " give long data on standard input")
      }
      bytes += word + [0]
    }
    guard bytes.count <= Self.sizeLimit else {
      throw Refusal(
        description: "the command has \(bytes.count) bytes; at most \(Self.sizeLimit) can be given:"
          + " give long data on standard input")
    }
    return bytes
  }
}
