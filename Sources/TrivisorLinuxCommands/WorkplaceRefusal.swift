import TrivisorVMM

/// A command can't be run in a guest as it was asked for.
package struct WorkplaceRefusal: Error, CustomStringConvertible {
  /// Whose fault it is.
  package enum Cause: Sendable {
    /// What was asked can't be had.
    case usage
    /// The guest's kernel lacks what it takes.
    case commandLost
    /// The host refuses something.
    case host
  }

  package let cause: Cause
  /// What, and what to do.
  package let sentence: Sentence

  package init(status cause: Cause, message sentence: Sentence) {
    self.cause = cause
    self.sentence = sentence
  }

  /// One sentence.
  package var description: String { sentence.description }
}
