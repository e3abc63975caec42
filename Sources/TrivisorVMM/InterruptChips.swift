/// Where a machine's interrupt controllers and timers are, which its guest can't tell but by what they cost.
public enum InterruptChips: String, Sendable, Equatable, CaseIterable {
  /// As the technique prefers it.
  case automatic = "auto"
  /// In the host's kernel.
  case kernel
  /// In this process.
  case software
}
