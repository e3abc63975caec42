import TrivisorVMM

/// How long a processor was in each state (`struct vcpu_runstate_info`).
struct RunState {
  enum Kind: UInt32 {
    case running, runnable, blocked, offline
  }

  private(set) var kind = Kind.offline
  private(set) var since = monotonicNanoseconds()
  private(set) var times: [UInt64] = [0, 0, 0, 0]
  /// Where the guest wants to see it; 0 where it does not.
  var area: UInt64 = 0
  /// Whether what the guest sees there is old.
  var isStale = false

  mutating func change(to new: Kind, at now: UInt64) {
    guard new != kind else { return }
    isStale = true
    times[Int(kind.rawValue)] &+= now &- since
    (kind, since) = (new, now)
  }

  struct Saved: Codable, Sendable, Equatable {
    var kind: UInt32
    /// Nanoseconds since it began.
    var age: UInt64
    var times: [UInt64]
    var area: UInt64
    var isStale: Bool
  }

  func save(at now: UInt64) -> Saved {
    Saved(kind: kind.rawValue, age: now &- since, times: times, area: area, isStale: isStale)
  }

  init() {}

  init(_ saved: Saved, at now: UInt64) throws(RestoreFailure) {
    guard let kind = Kind(rawValue: saved.kind), saved.times.count == times.count else {
      throw RestoreFailure(
        Domain.savedSubject, "a processor's times are of \(saved.times.count) states, and it is in state \(saved.kind)")
    }
    self.kind = kind
    since = now &- saved.age
    times = saved.times
    area = saved.area
    isStale = saved.isStale
  }
}

extension DomainProcessor {
  /// Before the guest goes on: what it sees of its times is as new as it is.
  func updateRunState() {
    guard runstate.isStale, runstate.area != 0 else { return }
    runstate.isStale = false
    // The area was the guest's own idea, and may be gone.
    try? writeRunState(runstate.area, root: kernelRoot)
  }

  /// VMASST_TYPE_runstate_update_flag, and the bit of the second word that tells a reader to wait (XEN_RUNSTATE_UPDATE).
  private static let updateAssist: UInt64 = 5
  private static let isUpdating: UInt64 = 1 << 63

  /// `struct vcpu_runstate_info`: state, since when, nanoseconds in each state.
  func writeRunState(_ address: UInt64, root: UInt64) throws(XenError) {
    let now = monotonicNanoseconds()
    let offset = layout.wordSize
    let since = runstate.since &- domain.time.start
    let isMarked = domain.assists & 1 << Self.updateAssist != 0
    try write(isMarked ? since | Self.isUpdating : since, to: address &+ offset, root: root)
    try write(runstate.kind.rawValue, to: address, root: root)
    for position in runstate.times.indices {
      let current = position == Int(runstate.kind.rawValue) ? now &- runstate.since : 0
      try write(
        runstate.times[position] &+ current, to: address &+ offset &+ 8 &+ 8 &* UInt64(position), root: root)
    }
    if isMarked { try write(since, to: address &+ offset, root: root) }
  }
}
