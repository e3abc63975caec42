/// What a guest must do to pass.
public struct Expectation: Sendable, Equatable {
  /// The end that is right, in the words of the result (docs/result.md): `exited`, `poweredOff`, `tripleFault`, …
  /// Without it: that the guest gives the right exit code or switches off.
  public var outcome: String?
  /// The exit code that is right. Switching off counts as 0.
  public var exitCode: UInt8?
  /// An extended regular expression (POSIX, as `grep -E`) that a line of the console must match.
  public var output: String?
  /// One that no line may match.
  public var forbiddenOutput: String?
  /// Whether the guest is ended as soon as `output` is there: for guests that never end by themselves.
  public var endsWithOutput = false
  /// Whether the console holds test points in the Test Anything Protocol.
  public var tap = false

  /// That the guest ends with exit code 0 or switches off.
  public init() {}

  /// The code that counts as right where the guest ends as it should.
  var rightCode: UInt8 { exitCode ?? 0 }
}
