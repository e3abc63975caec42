// What belongs to a state that is given to the processor from outside, beside registers that are copied: whether the engine
// can give it at all, the clock in guest memory, PAE's top table.

import Devices
import VMM
import X86

extension RewritingProcessor {
  /// Whether the engine gives all of the state; nothing has changed yet.
  func checkState(_ state: MachineState) throws(TechniqueFailure) {
    func require(_ condition: Bool, _ reason: String) throws(TechniqueFailure) {
      if !condition { throw TechniqueFailure(call: "writeState", reason: reason) }
    }
    let components = state.extended.xcr0
    try require(
      XCR0(rawValue: components).isSubset(of: supportedComponents),
      "XCR0 is \(hexadecimal(components)), and the processor model has \(hexadecimal(supportedComponents.rawValue))")
    try require(state.debug.addresses.count == 4, "there are \(state.debug.addresses.count) breakpoints, not 4")
    for register in state.modelSpecific {
      try require(
        Self.canHold(register),
        "the model-specific register \(hexadecimal(UInt64(register.index))) can't be \(hexadecimal(register.value))")
    }
  }

  /// Whether there is such a register, and it can have this value.
  private static func canHold(_ register: ModelSpecificRegister) -> Bool {
    switch register.index {
    case ModelSpecific.kernelGSBase, ModelSpecific.longTarget, ModelSpecific.compatibilityTarget:
      LinearAddress.isCanonical(register.value)
    case ModelSpecific.flagMask, ModelSpecific.timestampAuxiliary: register.value >> 32 == 0
    case ModelSpecific.timestamp, ModelSpecific.star, ModelSpecific.systemEnter, ModelSpecific.pageAttributes,
      ModelSpecific.defaultMemoryType, ModelSpecific.variableRanges, ClockRegister.wallClock, ClockRegister.systemTime:
      true
    case let index where BranchRecord.contains(index) || ModelSpecific.isFixedRange(index): true
    case let index:
      if case .kept(let initial, let writable)? = FamilyRegister.behaviour(of: index) {
        (register.value ^ initial) & ~writable == 0
      } else {
        false
      }
    }
  }

  /// The entries that are in the processor; none where the mode of paging has none.
  var pointerTable: [UInt64] {
    guard mmu.registers.usesPointerTable else { return [] }
    let table = mmu.pointerTable
    return [table.0, table.1, table.2, table.3].map(\.rawValue)
  }

  /// Takes over the entries of a state, or those in memory if it has none.
  func restorePointerTable(_ entries: [UInt64]) throws(TechniqueFailure) {
    guard mmu.registers.usesPointerTable else { return }
    do throws(GuestException) {
      if entries.count == 4 {
        try mmu.setPointerTable(entries.map { PageTableEntry(rawValue: $0) })
      } else {
        try mmu.loadPointerTable(from: system.cr3)
      }
    } catch {
      throw TechniqueFailure(call: "writeState", reason: "CR3 points to PAE entries with reserved bits")
    }
  }

  /// The guest's clock goes on from the time stamp counter and the system time at hand, with this host's frequency. What
  /// the guest has of it counts on: versions never come twice.
  func resumeClock() {
    guard let value = modelSpecific[ClockRegister.systemTime], value & 1 != 0,
      let place = mmu.host(value & ~3, count: 4)
    else { return }
    clockVersion = place.loadUnaligned(as: UInt32.self) & ~1
    storeSystemTime()
  }
}

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
