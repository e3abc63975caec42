// What Swift has to know of translated code when it comes back: by site number, and by host address after a fault.

import TrivisorInstructionSet

/// The notes of all blocks.
struct TranslationRecords: ~Copyable {
  private(set) var sites = RecordList<Site>()
  var faults = RecordList<FaultRange>()
  /// What `callOut` sites name.
  private(set) var instructions = RecordList<Instruction>()
  /// What `unsupported` sites name.
  private(set) var reasons: [String] = []
  /// What numbers in the state block name, from `X87Note.first` on.
  private(set) var x87Notes = RecordList<X87Note>()

  /// More than a block has. It has 48 instructions at the most (`BlockPlan+Loops`), each with two accesses: for one, a site and a fault
  /// in the main line, two of each in the cold part, and a check of its segment; beyond that an instruction leaves the block for itself or
  /// as a jump, on two ways. That is less than 16 of each; and one instruction for Swift and one note in either part.
  static let placesOfBlock = 1024
  static let instructionsOfBlock = 128

  /// How many there are.
  var counts: (sites: Int, faults: Int, instructions: Int, notes: Int) {
    (sites.count, faults.count, instructions.count, x87Notes.count)
  }

  /// Makes sure that a block's records fit.
  /// - Returns: `false` if the host has no memory for them; then there is room when everything has been thrown away, if there ever was.
  mutating func makeRoom() -> Bool {
    sites.makeRoom(for: Self.placesOfBlock) && faults.makeRoom(for: Self.placesOfBlock)
      && instructions.makeRoom(for: Self.instructionsOfBlock) && x87Notes.makeRoom(for: Self.instructionsOfBlock)
  }

  mutating func add(_ site: Site) -> Int {
    sites.append(site)
    return sites.count - 1
  }

  /// An x87 instruction that the processor's pointers may name.
  mutating func add(_ note: X87Note) -> UInt32 {
    x87Notes.append(note)
    return X87Note.first + UInt32(truncatingIfNeeded: x87Notes.count - 1)
  }

  /// What a number in the state block names, unless it is below `X87Note.first`.
  func x87Note(_ number: UInt32) -> X87Note? {
    let index = Int(number) - Int(X87Note.first)
    return index >= 0 && index < x87Notes.count ? x87Notes[index] : nil
  }

  mutating func replace(_ site: Int, _ kind: Site.Kind) {
    var changed = sites[site]
    changed.kind = kind
    sites[site] = changed
  }

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
    sites.removeAll()
    faults.removeAll()
    instructions.removeAll()
    reasons.removeAll()
    x87Notes.removeAll()
  }
}
