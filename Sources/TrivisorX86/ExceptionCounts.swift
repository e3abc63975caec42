/// How often each exception was delivered, by what a person tells them apart: where, and of page faults, what for. Counting
/// allocates nothing.
public struct ExceptionCounts: Sendable {
  private static let vectorCount = 32
  /// Read, write, fetch; with user and kernel, what an exception's place is made of.
  private static let accessCount = 3
  private var counts = [UInt64](repeating: 0, count: vectorCount * accessCount * 2)

  /// None yet.
  public init() {}

  /// One more.
  /// - Parameters:
  ///   - vector: below 32.
  ///   - errorCode: a page fault's.
  ///   - isUser: it came at CPL 3.
  public mutating func add(_ vector: UInt8, errorCode: PageFaultError, isUser: Bool) {
    var access = 0
    if vector == ExceptionVector.pageFault.rawValue {
      access = errorCode.contains(.fetch) ? 2 : errorCode.contains(.write) ? 1 : 0
    }
    let place = Int(vector) % Self.vectorCount * Self.accessCount + access
    counts[2 * place + (isUser ? 1 : 0)] &+= 1
  }

  /// All of them.
  public var total: UInt64 { counts.reduce(0, &+) }

  /// By name, as in "page fault at CPL 3, write"; those that did not occur are left out.
  public var byName: [String: UInt64] {
    var result: [String: UInt64] = [:]
    for (index, count) in counts.enumerated() where count > 0 {
      let vector = ExceptionVector(rawValue: UInt8(index / 2 / Self.accessCount))
      var name = vector?.title ?? "exception \(index / 2 / Self.accessCount)"
      name += index % 2 == 1 ? " at CPL 3" : " at CPL 0 to 2"
      if vector == .pageFault { name += ", " + ["read", "write", "fetch"][index / 2 % Self.accessCount] }
      result[name, default: 0] += count
    }
    return result
  }
}
