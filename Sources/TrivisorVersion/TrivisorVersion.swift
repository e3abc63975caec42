import TrivisorCBuildStamp

/// Which Trivisor this is.
public enum TrivisorVersion {
  /// Of the program and of the library.
  public static let number = "0.1.0"

  private static let stamp = String(cString: trivisor_build_stamp()).split(separator: " ").map(String.init)

  /// The commit that the executable was built from, where tools/stamp has told it.
  public static let commit: String? = stamp.first

  /// That commit's date, as 2026-11-28.
  public static let date: String? = stamp.count > 1 ? stamp[1] : nil

  /// For a person: the number, and the commit with its date.
  public static let text: String = {
    guard let commit else { return "\(number) (a build without a commit)" }
    return "\(number) (commit \(commit.prefix(12))\(date.map { ", \($0)" } ?? ""))"
  }()
}
