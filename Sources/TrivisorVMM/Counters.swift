// One vocabulary of events for the three techniques, so that their costs can be put side by side.
//
// A counter is a slot in a fixed array: counting on the hot path is one add, without a lock or an allocation. Each
// processor has its own and the report adds them up.

/// What is counted. The name is what reports and JSON call it.
public enum CountedEvent: Int, Sendable, CaseIterable {
  /// Reads and writes of ports, one each whatever its width; each element of a string instruction counts.
  case portRead, portWrite
  /// Loads and stores of device memory.
  case memoryRead, memoryWrite
  /// Times the technique left guest code for the monitor, whatever the cause: KVM's exits, traps, call-outs.
  case exit
  /// Of these: HLT, a signal or stop request, an instruction that the host emulates or refuses.
  case exitHalt, exitInterrupted, exitOther
  /// Of these, where code is translated: a memory access that the inline check could not answer; a jump that was not
  /// linked yet, or goes elsewhere each time.
  case exitMemory, exitJump
  /// Exceptions and interrupts that the technique itself delivered to the guest.
  case exceptionDelivered, interruptDelivered
  /// Translated blocks of guest code, and their bytes there.
  case blockTranslated, byteTranslated
  /// Nanoseconds in guest code, where the host's calls into it can be timed: KVM's part of an exit is in it.
  case nanosecondsInGuest

  /// As reports and JSON spell it.
  public var name: String { String(describing: self) }

  /// The event that reports and JSON spell so.
  public init?(name: String) {
    guard let event = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = event
  }

  /// In words.
  public var title: String {
    switch self {
    case .portRead: "port reads"
    case .portWrite: "port writes"
    case .memoryRead: "device memory reads"
    case .memoryWrite: "device memory writes"
    case .exit: "exits from guest code"
    case .exitHalt: "exits for HLT"
    case .exitInterrupted: "exits for a signal"
    case .exitOther: "other exits"
    case .exitMemory: "exits for memory that the inline check can't answer"
    case .exitJump: "exits for jumps that are not linked"
    case .exceptionDelivered: "exceptions delivered"
    case .interruptDelivered: "interrupts delivered"
    case .blockTranslated: "blocks translated"
    case .byteTranslated: "bytes of guest code translated"
    case .nanosecondsInGuest: "nanoseconds in guest code"
    }
  }
}

/// How often each event happened.
public struct Counters: Sendable, Equatable {
  private var values = InlineArray<15, UInt64>(repeating: 0)

  /// All zero.
  public init() {}

  /// The count of one event.
  public subscript(event: CountedEvent) -> UInt64 {
    get { values[event.rawValue] }
    set { values[event.rawValue] = newValue }
  }

  /// Several more.
  public mutating func count(_ event: CountedEvent, _ number: UInt64) { values[event.rawValue] &+= number }

  /// One more.
  public mutating func count(_ event: CountedEvent) { values[event.rawValue] &+= 1 }

  /// The sum of two processors' counts.
  public static func + (lhs: Counters, rhs: Counters) -> Counters {
    var sum = lhs
    for event in CountedEvent.allCases { sum[event] &+= rhs[event] }
    return sum
  }

  /// Equal when every count is.
  public static func == (lhs: Counters, rhs: Counters) -> Bool {
    CountedEvent.allCases.allSatisfy { lhs[$0] == rhs[$0] }
  }
}
