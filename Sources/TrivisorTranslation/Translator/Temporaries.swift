// Registers without a home of their own, and high bytes, go through temporaries.

/// Which temporary stands for which operand of an instruction, at most three of them.
struct Temporaries {
  private var slots: (RegisterSlot, RegisterSlot, RegisterSlot) = (.fixed(0), .fixed(0), .fixed(0))
  private(set) var count = 0
  /// T1 holds the address.
  private let hasAddress: Bool

  init(hasAddress: Bool) { self.hasAddress = hasAddress }

  /// The temporary, by its number.
  func host(at index: Int) -> UInt8 {
    switch hasAddress ? index + 1 : index {
    case 0: Host.t1
    case 1: Host.t2
    default: Host.rax
    }
  }

  /// What it stands for.
  func slot(at index: Int) -> RegisterSlot {
    switch index {
    case 0: slots.0
    case 1: slots.1
    default: slots.2
    }
  }

  /// RAX, where flags are kept, is one of them.
  var borrowRAX: Bool { count > 0 && host(at: count - 1) == Host.rax }

  private func position(_ slot: RegisterSlot) -> Int? {
    for index in 0..<count where self.slot(at: index).isSameRegister(slot) { return index }
    return nil
  }

  /// The temporary that stands for an operand.
  func host(_ slot: RegisterSlot) -> UInt8? { position(slot).map(host(at:)) }

  mutating func add(_ slot: RegisterSlot) {
    if let position = position(slot), !slot.isWritten || self.slot(at: position).isWritten { return }
    let place = position(slot) ?? count
    switch place {
    case 0: slots.0 = slot
    case 1: slots.1 = slot
    default: slots.2 = slot
    }
    count = max(count, place + 1)
  }
}
