/// How a balloon is, and what its guest says of its memory.
public struct BalloonReport: Sendable, Equatable {
  /// What a guest tells (virtio 1.2, 5.5.6.3), in bytes where it is memory; `nil` what it does not tell.
  public struct Statistics: Sendable, Equatable {
    /// Of an entry: its tag and its value.
    static let entrySize = 10

    private enum Tag: UInt16 {
      case swapIn = 0
      case swapOut, majorFaults, minorFaults, freeMemory, totalMemory, availableMemory, caches
    }

    /// Swapped in and out since the guest began.
    public var swapIn: UInt64?
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var swapOut: UInt64?
    /// Page faults that needed a disk, and the others.
    public var majorFaults: UInt64?
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var minorFaults: UInt64?
    /// Used for nothing.
    public var freeMemory: UInt64?
    /// All that the guest has, without what is in the balloon.
    public var totalMemory: UInt64?
    /// What programs could still have.
    public var availableMemory: UInt64?
    /// Contents of files, which could be read again.
    public var caches: UInt64?

    /// Nothing.
    public init() {}

    /// An entry of `entrySize` bytes; one with a tag of later drivers means nothing here.
    mutating func take(_ entry: UnsafeRawBufferPointer) {
      guard entry.count >= Self.entrySize else { return }
      let value = entry.loadUnaligned(fromByteOffset: 2, as: UInt64.self)
      switch Tag(rawValue: entry.loadUnaligned(as: UInt16.self)) {
      case .swapIn: swapIn = value
      case .swapOut: swapOut = value
      case .majorFaults: majorFaults = value
      case .minorFaults: minorFaults = value
      case .freeMemory: freeMemory = value
      case .totalMemory: totalMemory = value
      case .availableMemory: availableMemory = value
      case .caches: caches = value
      case nil: break
      }
    }
  }

  /// What is to be in the balloon, and what the driver says is.
  public var wantedBytes: UInt64
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var actualBytes: UInt64
  /// What was given back to the host in all: from the balloon, and because the guest reported it as free.
  public var inflatedBytes: UInt64
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var reportedBytes: UInt64
  /// The guest's last ones.
  public var statistics: Statistics

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(
    wantedBytes: UInt64, actualBytes: UInt64, inflatedBytes: UInt64, reportedBytes: UInt64, statistics: Statistics
  ) {
    self.wantedBytes = wantedBytes
    self.actualBytes = actualBytes
    self.inflatedBytes = inflatedBytes
    self.reportedBytes = reportedBytes
    self.statistics = statistics
  }
}
