import TrivisorDevices

/// How a memory balloon is, and what its guest says of its memory; `nil` what it has not told.
public struct MemoryBalloonReport: Sendable, Equatable {
  /// What is to be in the balloon.
  public let wanted: ByteCount
  /// What the guest says is in it.
  public let actual: ByteCount
  /// Given back to the host in all, from the balloon and because the guest reported it as free.
  public let returned: ByteCount
  /// All that the guest has, without what is in the balloon.
  public let total: ByteCount?
  /// Used for nothing.
  public let free: ByteCount?
  /// What programs could still have.
  public let available: ByteCount?

  init(_ report: BalloonReport) {
    wanted = ByteCount(bytes: report.wantedBytes)
    actual = ByteCount(bytes: report.actualBytes)
    returned = ByteCount(bytes: report.inflatedBytes &+ report.reportedBytes)
    total = report.statistics.totalMemory.map { ByteCount(bytes: $0) }
    free = report.statistics.freeMemory.map { ByteCount(bytes: $0) }
    available = report.statistics.availableMemory.map { ByteCount(bytes: $0) }
  }
}
