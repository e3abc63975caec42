import TrivisorVMM
import TrivisorX86

extension RewritingProcessor {
  func readState() throws(TechniqueFailure) -> MachineState { StateTransfer(processor: self).read() }

  func writeState(_ state: MachineState) throws(TechniqueFailure) { try StateTransfer(processor: self).write(state) }

  /// Everything that is known at this point.
  func crashReport(_ summary: String) -> CrashReport {
    let state = try? readState()
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
