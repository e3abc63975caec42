import TrivisorDevices
import TrivisorVMM

extension RewritingPartition: RestorablePartition {
  /// Chips and time.
  struct Saved: SavedState {
    static let version = 1
    /// Nanoseconds since the machine began.
    var systemTime: UInt64
    var chips: Chipset.Saved
  }

  var restorable: (any RestorablePartition)? { self }

  func save() -> Saved { Saved(systemTime: clock.nanoseconds &- startTime, chips: chipset.save()) }

  func restore(_ saved: Saved) throws(RestoreFailure) {
    try chipset.restore(saved.chips)
    startTime = clock.nanoseconds &- saved.systemTime
  }
}
