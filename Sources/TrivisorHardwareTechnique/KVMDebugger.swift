import CKVM
import TrivisorVMM
import TrivisorX86

/// What a debugger from outside wants of a processor under KVM, in KVM's terms.
struct KVMDebugger {
  /// What one of the four breakpoint registers is used for.
  enum Slot {
    case instruction(UInt64, isHardware: Bool)
    case data(Watchpoint, start: UInt64, length: UInt64)
    /// The guest's own, by its number there.
    case guest(Int)
  }

  /// What happens at the moment.
  enum Phase: Equatable {
    case running
    /// One instruction, held apart from interrupts or, after HLT, not.
    case stepping(holdsInterrupts: Bool)
    /// The guest's own #DB is on its way to its handler.
    case delivering
  }

  var orders = DebuggerOrders.none {
    didSet { isActive = orders != .none }
  }
  /// There are any.
  private(set) var isActive = false
  /// Guest physical addresses of INT3 for the orders' breakpoints.
  var places: Set<UInt64> = []
  var slots: [Slot] = []
  var phase = Phase.running
  /// Linear addresses at which a step ends that doesn't come back behind its instruction: handlers, targets of system calls.
  var stepEnds: Set<UInt64> = []

  var holdsInterrupts: Bool { phase == .stepping(holdsInterrupts: true) || phase == .delivering }

  static let registerCount = 4

  /// A watched range in pieces that a breakpoint register can have: 1, 2, 4 or 8 bytes at a multiple of their number.
  static func pieces(_ point: Watchpoint) -> [Slot] {
    var pieces: [Slot] = []
    var (start, rest) = (point.address, point.length)
    while rest > 0, pieces.count <= registerCount {
      var length: UInt64 = 8
      while length > rest || start & (length - 1) != 0 { length >>= 1 }
      pieces.append(.data(point, start: start, length: length))
      start &+= length
      rest -= length
    }
    return pieces
  }

  /// For KVM_SET_GUEST_DEBUG.
  /// - Parameters:
  ///   - guest: the guest's registers; what of them is on takes what is left of the four.
  ///   - withInstructions: breakpoints on instructions are on.
  mutating func registers(
    guest: DebugRegisters, withInstructions: Bool
  ) -> (addresses: [UInt64], control: UInt64)? {
    var used = slots.filter { slot in
      if case .instruction = slot { withInstructions } else { true }
    }
    inForce = []
    guard !used.isEmpty else { return nil }
    let guestControl = DR7(rawValue: guest.dr7)
    for number in 0..<Self.registerCount where used.count < Self.registerCount && guestControl.isEnabled(number) {
      used.append(.guest(number))
    }
    var addresses: [UInt64] = [0, 0, 0, 0]
    var control: DR7 = [.alwaysOne, .globalExact]
    for (position, slot) in used.enumerated() {
      let conditions: UInt64
      switch slot {
      case .instruction(let address, _):
        addresses[position] = address
        conditions = 0
      case .data(let point, let start, let length):
        addresses[position] = start
        // There are breakpoints for stores, and for stores and loads, but none for loads alone.
        let condition: UInt64 = point.use == .write ? 1 : 3
        let size: UInt64 = length == 8 ? 2 : length - 1
        conditions = size << 2 | condition
      case .guest(let number):
        addresses[position] = guest.addresses[number]
        conditions = guest.dr7 >> UInt64(16 + 4 * number) & 15
      }
      control.insert(DR7(rawValue: 2 << UInt64(2 * position) | conditions << UInt64(16 + 4 * position)))
    }
    inForce = used
    return (addresses, control.rawValue)
  }

  /// What the registers were given for, by their numbers.
  private(set) var inForce: [Slot] = []
}
