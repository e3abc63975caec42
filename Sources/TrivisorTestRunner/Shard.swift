import Glibc

/// One of several parts into which a run is divided, by the convention of Bazel's test encyclopedia that other runners
/// follow too: `TEST_TOTAL_SHARDS`, `TEST_SHARD_INDEX`, and a file to touch that says the convention is known.
public struct Shard: Sendable, Equatable {
  /// Counted from zero.
  public let index: Int
  /// How many parts there are.
  public let count: Int

  /// All of it.
  public static let whole = Shard(index: 0, count: 1)

  /// A variable that makes no sense.
  public struct Failure: Error, Sendable, CustomStringConvertible {
    /// One sentence.
    public let description: String
  }

  private init(index: Int, count: Int) {
    self.index = index
    self.count = count
  }

  /// What the environment says.
  /// - Throws: `Failure` when only half of it is there, or a number is none.
  public init(environment: (String) -> String?) throws(Failure) {
    let (total, index) = (environment("TEST_TOTAL_SHARDS") ?? "", environment("TEST_SHARD_INDEX") ?? "")
    guard !total.isEmpty || !index.isEmpty else {
      self = .whole
      return
    }
    guard let count = Int(total), count > 0, let number = Int(index), (0..<count).contains(number) else {
      throw Failure(
        description: "TEST_TOTAL_SHARDS='\(total)' and TEST_SHARD_INDEX='\(index)' are no part of a whole: "
          + "a count, and a number from 0 to below it")
    }
    self.init(index: number, count: count)
  }

  /// Touches the file that says we know the convention, if there is to be one.
  public static func acknowledge(environment: (String) -> String?) {
    guard let path = environment("TEST_SHARD_STATUS_FILE"), !path.isEmpty else { return }
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
    if descriptor >= 0 {
      futimens(descriptor, nil)
      close(descriptor)
    }
  }

  /// This part of `all`: neighbours go to different shards, because neighbours tend to take equally long.
  public func part<Element>(of all: [Element]) -> [Element] {
    all.enumerated().filter { $0.offset % count == index }.map(\.element)
  }
}
