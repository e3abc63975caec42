import TrivisorPlatform

/// A machine that runs, in this process or in a worker, as `VirtualMachine` handles it.
protocol RunningMachine: Sendable {
  /// Returns when every processor stands.
  func pause()
  func resume()
  func stop()
  /// Whether there is a memory balloon, which is told.
  func resizeBalloon(to bytes: UInt64) -> Bool
  /// `nil` without a balloon.
  func balloonReport() -> MemoryBalloonReport?
}

/// One in this process.
struct OwnMachine: RunningMachine {
  let platform: TrivisorPlatform.VirtualMachine

  func pause() { platform.pause() }
  func resume() { platform.resume() }
  func stop() { platform.stop() }
  func resizeBalloon(to bytes: UInt64) -> Bool { platform.resizeBalloon(to: bytes) }
  func balloonReport() -> MemoryBalloonReport? { platform.balloonReport().map { MemoryBalloonReport($0) } }
}
