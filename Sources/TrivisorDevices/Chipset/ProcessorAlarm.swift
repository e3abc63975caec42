import TrivisorVMM

/// A timer of the host that gets a processor's thread to look at the chips when their deadline has come.
public struct ProcessorAlarm {
  private let timer: HostTimer
  /// What it is set to, unless that has passed.
  private var time = UInt64.max

  /// - Parameter kick: called on the timer's thread.
  public init(_ kick: @escaping @Sendable () -> Void) { timer = HostTimer(kick) }

  /// Makes sure of a kick at `deadline` or before; both are nanoseconds of the monotonic clock.
  public mutating func set(_ deadline: UInt64, now: UInt64) {
    guard deadline != .max, !(time > now && time <= deadline) else { return }
    time = deadline
    timer.set(nanoseconds: Int64(clamping: deadline > now ? deadline &- now : 1))
  }

  /// No kick is wanted: the thread waits by itself.
  public mutating func clear() {
    guard time != .max else { return }
    time = .max
    timer.set(nanoseconds: nil)
  }
}
