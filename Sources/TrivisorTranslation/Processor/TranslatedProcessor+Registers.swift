import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor {
  /// The 16 general registers by number.
  package var general: UnsafeMutablePointer<UInt64> { block.general }
  /// 16 registers of 32 bytes.
  package var vectors: UnsafeMutablePointer<UInt8> { block.vectors }
  /// In FXSAVE's format.
  package var x87: UnsafeMutablePointer<UInt8> { block.x87 }

  /// Whether the guest's CPUID announces what an instruction needs.
  package func announces(_ instruction: Instruction) -> Bool { store.translator.announced.contains(instruction) }

  /// Bytes at a physical address were changed by whoever is not the guest's processor.
  package func memoryChanged(at physical: UInt64, count: Int) { store.invalidate(physical, count: count) }

  /// All of the architectural state.
  package func readState() -> MachineState { StateTransfer(processor: self).read() }

  /// - Throws: `TechniqueFailure` for a state that the engine can't give.
  package func writeState(_ state: MachineState) throws(TechniqueFailure) {
    try StateTransfer(processor: self).write(state)
  }

  /// Everything that is known at this point.
  package func crashReport(_ summary: String) -> CrashReport {
    let state = readState()
    var bytes: [UInt8] = []
    while bytes.count < 15 {
      let linear = system.cs.base &+ rip &+ UInt64(bytes.count)
      guard let physical = try? mmu.translate(linear, .execute, isUser: cpl == 3, overridesSMAP: false),
        let host = mmu.host(physical, count: 1)
      else { break }
      bytes.append(host.load(as: UInt8.self))
    }
    return CrashReport(summary: "\(summary) at RIP \(hexadecimal(rip))", state: state, instruction: bytes)
  }

  /// The way of an address through the guest's page tables.
  package func walk(_ linear: UInt64) -> PageWalk { mmu.walk(linear, system) }

  /// What CPUID answers.
  package func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? {
    identification.leaf(function, index: index) ?? CPUIDLeaf(function)
  }

  /// What only translation counts.
  package var details: [String: UInt64] { ledger.details(store, translations) }

  // MARK: The debugger's orders

  /// What a debugger wants from the next run on.
  package func follow(_ orders: DebuggerOrders) { follower.follow(orders) }

  /// A debugger wants one instruction.
  package var isSteppedByDebugger: Bool { follower.orders.steps }

  /// Before a run: what changed since the last one comes into force.
  package func adoptOrders() {
    // What code the next instruction is may not be established yet.
    let linear = control.is64 ? rip : (system.cs.base &+ rip) & 0xffff_ffff
    follower.adopt(at: linear, in: control, translations, store, turn)
  }

  /// Before an exception is delivered.
  package func beginException() { follower.beginException(in: control) }

  /// After it was delivered.
  package func stopBehindException() -> DebuggerStop? { follower.stopBehindException() }
}
