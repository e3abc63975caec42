import TrivisorInstructionSet

/// A case that ended otherwise on the host's processor than by the model: what a class of differences is recognised by.
package struct HostObservation: Sendable {
  package let native: ProcessorOutcome
  package let model: ProcessorOutcome
  /// Bytes of memory that differ.
  package let memory: [MemoryDifference]
  /// The instruction at which the model's run ended, and the one at which the native run did.
  package let modelLast: Instruction?
  package let nativeLast: Instruction?
  /// RFLAGS at the start.
  package let startFlags: UInt64
  /// Where the two differ.
  package let parts: Set<OutcomePart>

  /// - Parameters:
  ///   - modelLast: the bytes at the end of the model's run.
  ///   - nativeLast: the bytes at the end of the native run.
  package init(
    mode: CPUMode, native: ProcessorOutcome, model: ProcessorOutcome, memory: [MemoryDifference], modelLast: [UInt8],
    nativeLast: [UInt8], startFlags: UInt64
  ) {
    self.native = native
    self.model = model
    self.memory = memory
    self.startFlags = startFlags
    self.modelLast = Self.decode(modelLast, mode)
    self.nativeLast = Self.decode(nativeLast, mode)
    parts = native.differingParts(from: model).union(memory.isEmpty ? [] : [.memory])
  }

  private static func decode(_ bytes: [UInt8], _ mode: CPUMode) -> Instruction? {
    var instruction = Instruction(mode: mode)
    let status = bytes.withUnsafeBytes { Decoder(mode: mode).decode($0, into: &instruction) }
    return status == .decoded ? instruction : nil
  }

  /// Both ended with the same exception at the same instruction, and nothing differs but these parts.
  func endsAlike(butFor allowed: Set<OutcomePart>) -> Bool {
    parts.isSubset(of: allowed) && native.vector == model.vector && native.rip == model.rip
  }
}
