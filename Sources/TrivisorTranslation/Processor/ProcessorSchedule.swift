/// What a processor of several waits for, beside its turn.
package enum RendezvousCondition: Sendable {
  /// Another one has come to a safe point.
  case hasArrived
  /// The world that stood goes on.
  case worldGoesOn
}

/// Says which of several processors goes on, in the place of the host's threads: in tests, where one after the other runs in an
/// order that can be had again.
///
/// The lock is the one of the rendezvous. `lock`, `wait` and `sleeps` come back when the processor is to go on.
package protocol ProcessorSchedule: AnyObject, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func lock(_ processor: Int)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func unlock(_ processor: Int)
  /// The processor has the lock, which others may have meanwhile.
  func wait(_ processor: Int, for condition: RendezvousCondition)
  /// Whoever waits for the condition is to look again.
  func announce(_ condition: RendezvousCondition)
  /// The processor's thread goes into translated code, without the lock.
  func runsCode(_ processor: Int)
  /// It has come out of it.
  func ranCode(_ processor: Int)
  /// Whether the translation cache counts as full now.
  func emptiesCache(_ processor: Int) -> Bool
  /// The processor has nothing to do until `isAwake`, which others bring about.
  func sleeps(_ processor: Int, until isAwake: () -> Bool)
}
