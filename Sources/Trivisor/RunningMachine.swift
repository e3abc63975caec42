import TrivisorPlatform

/// A machine that runs, in this process or in a worker, as `VirtualMachine` handles it.
protocol RunningMachine: Sendable {
  /// Returns when every processor stands.
  func pause()
  func resume()
  func stop()
}

/// One in this process.
struct OwnMachine: RunningMachine {
  let platform: TrivisorPlatform.VirtualMachine

  func pause() { platform.pause() }
  func resume() { platform.resume() }
  func stop() { platform.stop() }
}
