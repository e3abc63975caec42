// The chips' state as a value: all of them at one moment, because they hang together.

import TrivisorVMM

extension Chipset: Restorable {
  /// Every register, every line, and what waits for each processor.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var locals: [LocalAPIC.Saved]
    var inputs: IOAPIC.Saved
    var legacy: LegacyController.Saved
    var timer: IntervalTimer.Saved
    var lastArbitration: Int
    var speaker: SystemControlPortB.Switches.Saved
  }

  /// What is due by now and was not yet noticed is due when it is restored.
  public func save() -> Saved {
    withState { state in
      let now = clock.nanoseconds
      return Saved(
        locals: state.locals.map { $0.save(now: now) }, inputs: state.inputs.save(), legacy: state.legacy.save(),
        timer: state.timer.save(now: now), lastArbitration: state.lastArbitration, speaker: speakerSwitches.save())
    }
  }

  /// Before the devices at its lines, and before the processors' states, which hold what their time stamp counters are
  /// ahead of the host's.
  /// - Throws: `RestoreFailure` for another number of processors, or values that no register has.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try replaceState { state throws(RestoreFailure) in
      let restored = try self.state(saved, replacing: state, now: clock.nanoseconds)
      try speakerSwitches.restore(saved.speaker)
      return restored
    }
  }

  private func state(
    _ saved: Saved, replacing state: State, now: UInt64
  ) throws(RestoreFailure) -> State {
    let count = state.locals.count
    try restoring(
      "interrupt chips", requires: saved.locals.count == count,
      "they serve \(saved.locals.count) processors, and the machine has \(count)")
    try restoring(
      "interrupt chips", requires: 0..<count ~= saved.lastArbitration, "no processor \(saved.lastArbitration) is there")
    var restored = State(locals: state.locals)
    for index in 0..<count {
      restored.locals[index] = try state.locals[index].restored(saved.locals[index], now: now)
    }
    restored.inputs = try IOAPIC(saved.inputs)
    restored.legacy = try LegacyController(saved.legacy)
    restored.timer = try IntervalTimer(saved.timer, now: now)
    restored.lastArbitration = saved.lastArbitration
    return restored
  }
}
