// State that can be taken away as a value and given to another machine: snapshot, clone and change of technique are one
// mechanism.
//
// Whoever writes a device writes its saved form. What holds for all of them:
//
// - All that the guest can find out, now or later, is in it. What belongs to the host is not: descriptors, threads,
//   callbacks, counters, and how the device was configured.
// - Saving changes nothing, and whoever saves sees to it that nothing else does: the processors stand, devices with threads
//   are held (`VirtioMMIO.hold`). A request at hand is ended first; one that waits stays in guest memory.
// - A guest's time stands still while it is saved. Points in time are saved as their distance from the moment of saving,
//   because the host's clocks mean nothing to another host. Only a clock that shows the time of day follows the host's.
// - What is restored may come from an enemy. Every value is checked, and the device stays as it was if one is wrong.
// - A restored device drives its interrupt line to the level that its registers make. So interrupt chips are restored
//   before devices: a line that is as the chips know it changes nothing.

/// Something whose state can be saved, and replaced by one that was saved.
public protocol Restorable: AnyObject {
  /// The state as a plain value.
  associatedtype Saved: Sendable

  /// The state at this moment.
  func save() -> Saved

  /// Replaces the state; nothing has changed when it throws.
  /// - Throws: `RestoreFailure` when the value is not one that `save` could have given.
  func restore(_ saved: Saved) throws(RestoreFailure)
}

/// A saved state that can be stored outside of this process.
public protocol SavedState: Codable, Sendable, Equatable {
  /// The number of this form; another one with each change of what its fields mean.
  static var version: Int { get }
}

/// A saved state with the number of its form, which is looked at before the rest is.
public struct Versioned<State: SavedState>: Codable, Sendable, Equatable {
  /// What was saved.
  public var state: State

  private enum Field: String, CodingKey {
    case version, state
  }

  /// In the form that this program has.
  public init(_ state: State) { self.state = state }

  /// - Throws: `RestoreFailure` for another form, or the decoder's error.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: Field.self)
    let version = try fields.decode(Int.self, forKey: .version)
    guard version == State.version else {
      throw RestoreFailure(
        "\(State.self)", "it has the form \(version), and this program knows the form \(State.version)")
    }
    state = try fields.decode(State.self, forKey: .state)
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: Field.self)
    try fields.encode(State.version, forKey: .version)
    try fields.encode(state, forKey: .state)
  }
}

/// A saved state that fits no such device, or not this one.
public struct RestoreFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// Whose state: "serial port".
  public let subject: String
  /// What is wrong with it, in one clause.
  public let reason: String

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(_ subject: String, _ reason: String) {
    self.subject = subject
    self.reason = reason
  }

  /// One sentence.
  public var description: String { "the saved state of the \(subject) can't be restored: \(reason)" }
}

/// Goes on if `condition` holds.
/// - Throws: `RestoreFailure` of these parts.
public func restoring(
  _ subject: String, requires condition: Bool, _ reason: @autoclosure () -> String
) throws(RestoreFailure) {
  if !condition { throw RestoreFailure(subject, reason()) }
}
