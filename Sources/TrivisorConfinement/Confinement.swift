// What a monitor gives up before its guest's first instruction, so that a guest that has found a way out of its machine finds
// nothing outside it. docs/security.md has the threat model, and what is left under each technique.
//
//     restrictFiles(to:)      before the machine is made: Landlock, for this thread and all that it makes
//     restrictCalls(_:)       when the machine is made: seccomp, in all threads
//
// Where the host's kernel has no Landlock, or allows no filter, the run goes on with less, and says so.

import Glibc
import SystemPackage
import TrivisorCConfinement

/// What confines this process.
public struct Confinement: Sendable, Equatable {
  /// What stays usable of the host's files.
  public struct Place: Sendable, Equatable {
    /// How.
    public enum Use: Sendable, Equatable {
      /// Reading.
      case read
      /// Reading and writing what is there.
      case write
      /// Making, removing and renaming, too.
      case change
    }

    /// With all that is below it.
    public var path: FilePath
    /// How.
    public var use: Use

    /// - Parameter use: how it stays usable.
    public init(_ path: FilePath, _ use: Use) {
      self.path = path
      self.use = use
    }
  }

  /// The version of the host's Landlock that holds files; `nil` where there is none.
  public private(set) var landlockVersion: Int?
  /// Whether system calls are filtered.
  public private(set) var filtersCalls = false
  /// What could not be had, a sentence each.
  public private(set) var shortcomings: [String] = []

  /// Nothing yet.
  public init() {}

  /// What confines it, in words; "nothing" if nothing does.
  public var title: String {
    let parts = (filtersCalls ? ["seccomp"] : []) + (landlockVersion.map { ["Landlock \($0)"] } ?? [])
    return parts.isEmpty ? "nothing" : parts.joined(separator: ", ")
  }

  /// Gives up all files but these, and privileges that programs could give: in this thread and those that it makes. Places that
  /// are not there are no place to give up.
  public mutating func restrictFiles(to places: [Place]) {
    note("core files", confinement_no_core())
    note("limits", confinement_lower_limits())
    guard note("PR_SET_NO_NEW_PRIVS", confinement_no_new_privileges()) else { return }
    var version: Int32 = 0
    let ruleset = confinement_make_ruleset(&version)
    guard note("Landlock", min(ruleset, 0)) else { return }
    for place in places {
      let access: UInt32 =
        switch place.use {
        case .read: CONFINEMENT_READ.rawValue
        case .write: CONFINEMENT_READ.rawValue | CONFINEMENT_WRITE.rawValue
        case .change: CONFINEMENT_READ.rawValue | CONFINEMENT_WRITE.rawValue | CONFINEMENT_CHANGE.rawValue
        }
      _ = place.path.withPlatformString { confinement_allow(ruleset, version, $0, access) }
    }
    if note("Landlock", confinement_enforce(ruleset)) { landlockVersion = Int(version) }
  }

  /// Refuses all system calls that a run does not need, in all threads.
  /// - Parameters:
  ///   - opensFiles: the run opens files by their names: it has shared folders, or starts anew after a reset.
  ///   - makesProcesses: the technique runs guests in processes of their own.
  ///   - makesCode: the technique translates, or maps, code.
  ///   - takesConnections: others send commands, or frames, for the guest to a socket that is open.
  ///   - hasSockets: the guest has virtio sockets, whose other ends wait at a socket that is open.
  public mutating func restrictCalls(
    opensFiles: Bool, makesProcesses: Bool, makesCode: Bool, takesConnections: Bool = false,
    hasSockets: Bool = false
  ) {
    note("the limit of open files", confinement_keep_descriptors())
    var calls: UInt32 = 0
    if takesConnections { calls |= CONFINEMENT_ACCEPTS.rawValue }
    if hasSockets { calls |= CONFINEMENT_SOCKETS.rawValue }
    if opensFiles { calls |= CONFINEMENT_OPENS.rawValue }
    if makesProcesses { calls |= CONFINEMENT_SPAWNS.rawValue }
    if makesCode { calls |= CONFINEMENT_NEW_CODE.rawValue }
    filtersCalls = note("seccomp", confinement_filter(calls))
  }

  @discardableResult
  private mutating func note(_ what: String, _ result: Int32) -> Bool {
    if result == 0 { return true }
    shortcomings.append("\(what): \(Errno(rawValue: -result))")
    return false
  }
}
