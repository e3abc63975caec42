// What Swift has to know of translated code when it comes back: by site number, and by host address after a fault.

import InstructionSet

/// The notes of all blocks.
struct TranslationRecords {
  private(set) var sites: [Site] = []
  var faults: [FaultRange] = []
  /// What `callOut` sites name.
  private(set) var instructions: [Instruction] = []
  /// What `unsupported` sites name.
  private(set) var reasons: [String] = []

  mutating func add(_ site: Site) -> Int {
    sites.append(site)
    return sites.count - 1
  }

  mutating func replace(_ site: Int, _ kind: Site.Kind) { sites[site].kind = kind }

  /// An instruction that Swift carries out.
  mutating func callOut(_ instruction: Instruction) -> Site.Kind {
    instructions.append(instruction)
    return .callOut(Int32(truncatingIfNeeded: instructions.count - 1))
  }

  /// An instruction that nobody carries out.
  mutating func unsupported(_ reason: String) -> Site.Kind {
    reasons.append(reason)
    return .unsupported(Int32(truncatingIfNeeded: reasons.count - 1))
  }

  /// The cache is empty again.
  mutating func removeAll() {
    sites.removeAll(keepingCapacity: true)
    faults.removeAll(keepingCapacity: true)
    instructions.removeAll(keepingCapacity: true)
    reasons.removeAll()
  }
}
