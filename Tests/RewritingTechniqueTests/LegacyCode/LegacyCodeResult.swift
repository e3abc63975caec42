import TrivisorDifferential
import Glibc
import TrivisorInstructionSet
import TrivisorVMM

/// What both machines ended with, compared.
struct LegacyCodeResult {
  let test: LegacyCodeCase
  let mode: CPUMode
  /// What the model had in the place of the test's code.
  let code: [UInt8]
  /// `nil` if the native machine is lost.
  let native: (LegacyCodeState, LegacyCodeEnd)?
  /// Without an end, the engine has refused it, and says why.
  let model: (LegacyCodeState, LegacyCodeEnd?, String)
  let memory: [MemoryDifference]

  /// Bytes of memory, but for code that was placed differently and is still so.
  private var changedMemory: [MemoryDifference] {
    let start = LegacyCodeLayout.code + (test.state.rip & 0xffff)
    return memory.filter {
      let place = $0.address &- start
      guard place < UInt64(code.count) else { return true }
      return test.code[Int(place)] != $0.native || code[Int(place)] != $0.model
    }
  }

  /// In words; `nil` if there is none.
  var difference: String? {
    guard let end = model.1 else { return "refused: \(model.2)" }
    guard let native else { return "the native machine is lost" }
    let (expected, found) = outcomes(native, end)
    var texts = expected.differingParts(from: found).map {
      "\(expected.describe($0)) and \(found.describe($0))"
    }.sorted()
    if end != native.1 { texts.append("end: \(native.1) and \(end)") }
    if let byte = changedMemory.first {
      texts.append("memory at \(hexadecimal(byte.address)): \(byte.native) and \(byte.model)")
    }
    return texts.isEmpty ? nil : texts.joined(separator: "; ")
  }

  /// The class of the difference, if this host's processor is known for it.
  func knownDifference(on host: HostProcessor) -> HostDifference? {
    guard let native, let end = model.1 else { return nil }
    let (expected, found) = outcomes(native, end)
    let seen = HostObservation(
      mode: found.selectors[1] == LegacyCodeLayout.code64 ? .bits64 : mode, native: expected, model: found,
      memory: changedMemory, modelLast: bytes(at: found), nativeLast: bytes(at: expected), startFlags: test.state.flags)
    return HostDifference.classify(seen, on: host.vendor)
  }

  /// Of the test's code, from where a machine stopped; behind it there is INT3.
  private func bytes(at outcome: ProcessorOutcome) -> [UInt8] {
    let base = LegacyCodeLayout.base(outcome.selectors[1])
    let place = outcome.rip &+ base &- LegacyCodeLayout.code &- (test.state.rip & 0xffff)
    return place < UInt64(test.code.count) ? Array(test.code[Int(place)...]) : [PlantedBreakpoints.instruction]
  }

  private func outcomes(
    _ native: (LegacyCodeState, LegacyCodeEnd), _ end: LegacyCodeEnd
  ) -> (native: ProcessorOutcome, model: ProcessorOutcome) {
    var expected = outcome(native.0, native.1), found = outcome(model.0, end)
    // INT1 under a hypervisor comes with RIP at itself; jumps lead to it.
    if native.1.signal == SIGTRAP, found.rip == expected.rip + 1 { expected.rip = found.rip }
    return (expected, found)
  }

  private func outcome(_ state: LegacyCodeState, _ end: LegacyCodeEnd) -> ProcessorOutcome {
    var outcome = ProcessorOutcome()
    // As far as a signal tells; #NP and #SS come as SIGBUS, too.
    let vectors: [Int32: UInt64] = [SIGFPE: 16, SIGTRAP: 3, SIGILL: 6, SIGBUS: 17, SIGSEGV: 13]
    outcome.vector = end.address != nil ? 14 : vectors[end.signal] ?? UInt64(end.signal)
    outcome.address = end.address ?? 0
    let is64 = native?.0.selectors[1] == LegacyCodeLayout.code64
    let mask: UInt64 = is64 ? .max : 0xffff_ffff
    outcome.rip = state.rip & mask
    // Linux leaves something of its own above ESP where the stack is of 16 bits.
    for number in 0..<(is64 ? 16 : 8) {
      outcome.general[number] = state.general[number] & (number == 4 ? 0xffff_ffff : mask)
    }
    outcome.flags = state.flags & 0xcd5 & ~test.undefinedFlags
    outcome.selectors = state.selectors
    // Control, status and tags; MXCSR; the registers. Not the last instruction and its operand.
    state.floating.withUnsafeBytes { area in
      guard let start = area.baseAddress else { return }
      outcome.readFloating(from: start)
      outcome.mxcsr = start.load(fromByteOffset: 24, as: UInt32.self)
      for register in 0..<(is64 ? 16 : 8) {
        for word in 0..<2 {
          outcome.vectors[4 * register + word] = start.loadUnaligned(
            fromByteOffset: 160 + 16 * register + 8 * word, as: UInt64.self)
        }
      }
    }
    return outcome
  }
}

extension LegacyCodeCase {
  /// Whether one of its instructions pushes a selector as four bytes.
  func pushesSegment(_ mode: CPUMode) -> Bool {
    var place = 0
    var instruction = Instruction(mode: mode)
    while place < code.count {
      let rest = code[place...]
      let status = rest.withUnsafeBytes { Decoder(mode: mode).decode($0, into: &instruction) }
      guard status == .decoded else { return false }
      if instruction.pushesSegment, instruction.operandSize == 4 { return true }
      place += Int(instruction.length)
    }
    return false
  }

  /// The code with the instructions that a class is about in another encoding; `nil` if there are none.
  func encodings(for difference: HostDifference, _ mode: CPUMode) -> [UInt8]? {
    var code: [UInt8] = []
    var instruction = Instruction(mode: mode)
    while code.count < self.code.count {
      let rest = Array(self.code[code.count...])
      guard rest.withUnsafeBytes({ Decoder(mode: mode).decode($0, into: &instruction) }) == .decoded else { return nil }
      let bytes = Array(rest.prefix(Int(instruction.length)))
      code += difference.encodingForModel(bytes, instruction) ?? bytes
    }
    return code == self.code ? nil : code
  }
}
