/// Words behind commas at the end of an option's value, as in `disk.img,ro,queues=4`.
///
/// What stands in front of them is a path, which may hold commas itself. So words are taken from the end on, as long as
/// they are known; the comma in front of another one belongs to the path. Whether a path is meant, or a word that is
/// mistyped, only shows where there is no such path: then `refuseUnknown()` is to be asked.
public struct TrailingWords: Sendable {
  /// What may stand there.
  public struct Vocabulary: Sendable {
    let words: [String]
    let repeatable: [String]
    let alternatives: [String]

    /// - Parameters:
    ///   - words: a word with a value ends with an equals sign.
    ///   - repeatable: of these, words that may be given several times, with another value each time.
    ///   - alternatives: of these, words of which only one can be had.
    public init(_ words: [String], repeatable: [String] = [], alternatives: [String] = []) {
      self.words = words
      self.repeatable = repeatable
      self.alternatives = alternatives
    }
  }

  /// Why the words can't be had.
  public struct Failure: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong, and what to do about it: a clause.
    public let description: String

    /// - Parameter description: a clause.
    public init(_ description: String) { self.description = description }
  }

  /// What stands in front of them.
  public let rest: String
  private let vocabulary: Vocabulary
  /// In the order in which they stand there.
  private let found: [(word: String, value: String)]

  /// - Throws: `Failure` for a word that is given again, that has no value, or that contradicts another one.
  public init(_ text: String, _ vocabulary: Vocabulary) throws(Failure) {
    var rest = Substring(text)
    var found: [(word: String, value: String)] = []
    while let (name, typed) = Self.last(of: rest, vocabulary) {
      let value = String(typed.dropFirst(name.count))
      if name.hasSuffix("="), value.isEmpty { throw Failure("'\(typed)' has no value: give one, or leave it out") }
      if let again = found.first(where: { $0.word == name }) {
        let isRepeatable = vocabulary.repeatable.contains(name)
        guard isRepeatable, !found.contains(where: { $0.word == name && $0.value == value }) else {
          let all =
            again.value == value ? "'\(typed)' is given twice" : "'\(typed)' and '\(name + again.value)' are given"
          throw Failure("\(all): leave one out")
        }
      }
      let alternatives = vocabulary.alternatives
      if alternatives.contains(name),
        let other = found.first(where: { $0.word != name && alternatives.contains($0.word) })
      {
        throw Failure("'\(typed)' and '\(other.word + other.value)' can't be had together: leave one out")
      }
      found.insert((name, value), at: 0)
      rest = rest.dropLast(typed.count + 1)
    }
    self.rest = String(rest)
    self.found = found
    self.vocabulary = vocabulary
  }

  /// The word behind the last comma, if it is known, and the whole of it.
  private static func last(of text: Substring, _ vocabulary: Vocabulary) -> (name: String, typed: Substring)? {
    guard let comma = text.lastIndex(of: ",") else { return nil }
    let typed = text[text.index(after: comma)...]
    let name = vocabulary.words.first { $0.hasSuffix("=") ? typed.hasPrefix($0) : typed == $0 }
    return name.map { ($0, typed) }
  }

  /// Whether a word without a value is there.
  public func has(_ word: String) -> Bool { found.contains { $0.word == word } }

  /// The value of a word that is there once.
  public func value(_ word: String) -> String? { values(word).first }

  /// The values of a word that may be there several times.
  public func values(_ word: String) -> [String] { found.filter { $0.word == word }.map(\.value) }

  /// For a path that does not exist.
  /// - Throws: `Failure` if what stands behind its last comma can be meant as a word.
  public func refuseUnknown() throws(Failure) {
    guard let comma = rest.lastIndex(of: ",") else { return }
    let word = rest[rest.index(after: comma)...]
    // The comma is in the name of a folder.
    guard !word.contains("/") else { return }
    let what = word.isEmpty ? "nothing stands behind the last comma" : "'\(word)' can't stand behind a comma"
    throw Failure("there is no '\(rest)', and \(what): there are \(Self.list(vocabulary.words))")
  }

  private static func list(_ words: [String]) -> String {
    guard words.count > 1, let last = words.last else { return words.joined() }
    return words.dropLast().joined(separator: ", ") + " and " + last
  }
}
