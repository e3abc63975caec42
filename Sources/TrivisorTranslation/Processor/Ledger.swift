import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Where a processor's time went, in ticks of the host's time stamp counter, and what it had Swift do.
package struct Ledger {
  /// In translated code, the way there and back included.
  var guest: UInt64 = 0
  var translator: UInt64 = 0
  /// In the machine's devices and interrupt chips.
  var devices: UInt64 = 0
  /// Waiting for its turn in Swift, where there are several processors; `RendezvousTally` has it of all of them together.
  var awaitingTurn: UInt64 = 0
  /// Asleep because the guest was: HLT.
  package var asleep: UInt64 = 0
  /// Asleep because the guest spins (`SpinBrake`), and how often.
  var parked: UInt64 = 0
  var rests: UInt64 = 0
  /// For how long it was to rest, and did, in nanoseconds.
  package var rested: UInt64 = 0
  /// In `run()`.
  package var total: UInt64 = 0
  /// What is left: instructions that Swift carries out, TLB misses, exceptions, looking for blocks.
  var callOuts: UInt64 { total &- min(total, guest &+ translator &+ devices &+ awaitingTurn &+ asleep &+ parked) }

  /// Exceptions that were delivered, or tried to be.
  var exceptions = ExceptionCounts()

  /// Call-outs by the decoder's number of the instruction, and one of each.
  private var counts: [UInt64] = []
  private(set) var samples: [Instruction] = []

  mutating func count(_ instruction: Instruction) {
    let form = Int(instruction.form)
    while counts.count <= form { counts.append(0) }
    if counts[form] == 0 { samples.append(instruction) }
    counts[form] += 1
  }

  func count(of sample: Instruction) -> UInt64 { counts[Int(sample.form)] }
}

extension Ledger {
  /// What only translation counts, by what it is called.
  func details(_ store: TranslationCache, _ translations: AddressTranslations) -> [String: UInt64] {
    // A guest that ends at once does not wait for an exact measurement.
    let frequency = Double(HostTimestamp.estimatedFrequency)
    func microseconds(_ ticks: UInt64) -> UInt64 { UInt64(min(Double(ticks) / frequency * 1e6, 1e18).rounded()) }
    var details: [String: UInt64] = [
      "code dropped because it was overwritten, blocks": store.invalidated,
      "code cache emptied": UInt64(store.generation),
      "flushes of all translations": translations.wholeFlushes,
      "flushes of translations that are not global": translations.partialFlushes,
      "flushes of one page's translation": translations.pageFlushes,
      "returns to an address space whose translations were kept": translations.spacesFound,
      "microseconds in guest code": microseconds(guest),
      "microseconds in the translator": microseconds(translator),
      "microseconds in devices": microseconds(devices),
      "microseconds asleep": microseconds(asleep),
      "microseconds parked at PAUSE": microseconds(parked),
      "rests of a processor that spins": rests,
      "microseconds in call-outs and misses": microseconds(callOuts),
    ]
    for sample in samples { details["call-out: \(sample.mnemonic)", default: 0] += count(of: sample) }
    for (name, count) in exceptions.byName { details["exception: \(name)"] = count }
    return details
  }
}
