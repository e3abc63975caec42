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
}
