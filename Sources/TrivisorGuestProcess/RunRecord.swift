/// The result that `trivisor run --json` wrote, as far as others need it (docs/result.md).
///
/// It is a file from another process, perhaps of another version: what is not known there is absent here.
public struct RunRecord: Decodable, Sendable, Equatable {
  /// Milliseconds.
  public struct Times: Decodable, Sendable, Equatable {
    /// From the image to processors that are ready.
    public let setUp: Double
    /// From the first instruction until the last processor is gone and the output delivered.
    public let guest: Double
    /// Since the command line was parsed.
    public let sinceCommand: Double
    /// Nanoseconds of the host's CLOCK_MONOTONIC.
    public let firstInstruction: UInt64
  }

  /// Bytes.
  public struct Memory: Decodable, Sendable, Equatable {
    /// The most that the process had resident.
    public let peakResident: UInt64
  }

  /// Raised when a member changes its meaning.
  public let schemaVersion: Int
  /// What ran the guest, and why that one.
  public let technique: String
  /// In which way the technique ran it, where that is not how its name would have it.
  public let manner: String?
  /// See `technique`.
  public let techniqueReason: String
  /// How the run ended, in the words of docs/result.md.
  public let outcome: String
  /// The guest's own exit code, if it gave one.
  public let guestCode: UInt8?
  /// What the process meant to exit with.
  public let status: Int32
  /// One sentence, where there is more to say.
  public let detail: String?
  /// Where the time went.
  public let times: Times
  /// What was resident.
  public let memory: Memory
  /// How often each event happened.
  public let counters: [String: UInt64]
  /// What only the technique counts, by its own names.
  public let details: [String: UInt64]?
}
