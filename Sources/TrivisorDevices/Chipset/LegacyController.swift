// The pair of 8259s of a PC: the master's eight inputs, of which number 2 is the slave's output, and its output INTR.
//
//     lines 8–15 ─▶ slave ─┐
//     lines 0–7  ─▶ master ◀┘ (input 2) ─▶ INTR ─▶ LINT0 of the local APICs
//
// Sources: Intel 8259A data sheet; the edge/level registers: Intel 82371FB (PIIX) data sheet, 2.4.

import TrivisorVMM

/// One 8259A.
struct LegacyChip {
  /// Inputs that are level-triggered, by the edge/level register.
  var levelInputs: UInt8 = 0
  /// For the master, input 2: whatever the slave's output is.
  let cascadeInput: UInt8

  private var lines: UInt8 = 0
  private(set) var requests: UInt8 = 0
  private(set) var inService: UInt8 = 0
  private(set) var mask: UInt8 = 0
  private var vectorBase: UInt8 = 0
  /// The input that goes first.
  private var first: UInt8 = 0
  /// Which initialization word comes next: 2, 3, 4; 0 is none.
  private var expectedWord = 0
  private var isSingle = false
  private var needsFourthWord = false
  private var endsAutomatically = false
  private var rotatesAutomatically = false
  private var hasSpecialMask = false
  private var isFullyNested = false
  private var readsInService = false
  private var polls = false

  init(isMaster: Bool) { cascadeInput = isMaster ? 4 : 0 }

  mutating func setLine(_ line: Int, asserted: Bool) {
    let bit: UInt8 = 1 << UInt8(line & 7)
    if asserted {
      if levelInputs & bit != 0 || lines & bit == 0 { requests |= bit }
      lines |= bit
    } else {
      if levelInputs & bit != 0 { requests &= ~bit }
      lines &= ~bit
    }
  }

  /// The master's input 2.
  mutating func setCascade(_ isAsserted: Bool) {
    requests = isAsserted ? requests | cascadeInput : requests & ~cascadeInput
  }

  /// How many places behind the first an input of the set stands; 8 when it is empty.
  private func place(_ set: UInt8) -> Int {
    let rotated = set >> first | set << ((8 &- first) & 7)
    return rotated.trailingZeroBitCount
  }

  /// The input that interrupts: its request goes before everything in service.
  var pending: UInt8? {
    let candidates = place(requests & ~mask)
    guard candidates < 8 else { return nil }
    var serving = inService
    if hasSpecialMask { serving &= ~mask }
    // Fully nested: the slave may interrupt itself.
    if isFullyNested { serving &= ~cascadeInput }
    guard candidates < place(serving) else { return nil }
    return (UInt8(candidates) &+ first) & 7
  }

  func vector(_ input: UInt8) -> UInt8 { vectorBase | input }

  mutating func acknowledge(_ input: UInt8) {
    let bit: UInt8 = 1 << input
    if endsAutomatically {
      if rotatesAutomatically { first = (input &+ 1) & 7 }
    } else {
      inService |= bit
    }
    if levelInputs & bit == 0, bit != cascadeInput { requests &= ~bit }
  }

  // MARK: Registers

  mutating func writeCommand(_ value: UInt8) {
    if value & 0x10 != 0 {
      initialize(value)
    } else if value & 0x08 != 0 {
      if value & 0x04 != 0 { polls = true }
      if value & 0x02 != 0 { readsInService = value & 1 != 0 }
      if value & 0x40 != 0 { hasSpecialMask = value & 0x20 != 0 }
    } else {
      endInterrupt(value >> 5, input: value & 7)
    }
  }

  /// The first initialization word. Its bit for level-triggered inputs has no effect on a PC.
  private mutating func initialize(_ value: UInt8) {
    isSingle = value & 2 != 0
    needsFourthWord = value & 1 != 0
    expectedWord = 2
    requests &= levelInputs
    lines &= levelInputs
    (inService, mask, first) = (0, 0, 0)
    (endsAutomatically, rotatesAutomatically, hasSpecialMask, isFullyNested) = (false, false, false, false)
    (readsInService, polls) = (false, false)
  }

  private mutating func endInterrupt(_ command: UInt8, input: UInt8) {
    switch command {
    case 0: rotatesAutomatically = false
    case 4: rotatesAutomatically = true
    case 1, 5:
      // In special mask mode, not of an input that is masked (data sheet, "Special mask mode").
      let place = place(hasSpecialMask ? inService & ~mask : inService)
      guard place < 8 else { return }
      let input = (UInt8(place) &+ first) & 7
      inService &= ~(1 << input)
      if command == 5 { first = (input &+ 1) & 7 }
    case 3, 7:
      inService &= ~(1 << input)
      if command == 7 { first = (input &+ 1) & 7 }
    case 6: first = (input &+ 1) & 7
    default: break
    }
  }

  mutating func writeData(_ value: UInt8) {
    switch expectedWord {
    case 2:
      vectorBase = value & 0xf8
      expectedWord = isSingle ? (needsFourthWord ? 4 : 0) : 3
    case 3: expectedWord = needsFourthWord ? 4 : 0
    case 4:
      endsAutomatically = value & 2 != 0
      isFullyNested = value & 0x10 != 0
      expectedWord = 0
    default: mask = value
    }
  }

  /// A read in poll mode acknowledges.
  mutating func read(isData: Bool) -> UInt8 {
    if polls {
      polls = false
      guard let input = pending else { return 0 }
      acknowledge(input)
      return 0x80 | input
    }
    return isData ? mask : readsInService ? inService : requests
  }
}

/// Both.
struct LegacyController {
  private(set) var master = LegacyChip(isMaster: true)
  private(set) var slave = LegacyChip(isMaster: false)

  /// The output.
  var isInterrupting: Bool { master.pending != nil }

  /// Lines 0 to 15; input 2 has no line.
  mutating func setLine(_ line: Int, asserted: Bool) {
    guard (0..<16).contains(line), line != 2 else { return }
    if line < 8 { master.setLine(line, asserted: asserted) } else { slave.setLine(line, asserted: asserted) }
    update()
  }

  private mutating func update() { master.setCascade(slave.pending != nil) }

  /// The processor's acknowledgement. A request that is gone by then is a spurious interrupt, as line 7 or 15.
  mutating func acknowledge() -> UInt8 {
    defer { update() }
    guard let input = master.pending else { return master.vector(7) }
    master.acknowledge(input)
    guard input == 2 else { return master.vector(input) }
    guard let slaveInput = slave.pending else { return slave.vector(7) }
    slave.acknowledge(slaveInput)
    return slave.vector(slaveInput)
  }

  /// Ports 0x20, 0x21, 0xa0, 0xa1.
  mutating func read(_ port: UInt16) -> UInt8 {
    defer { update() }
    return port & 0x80 == 0 ? master.read(isData: port & 1 != 0) : slave.read(isData: port & 1 != 0)
  }

  /// Ports 0x20, 0x21, 0xa0, 0xa1.
  mutating func write(_ value: UInt8, to port: UInt16) {
    switch (port & 0x80 == 0, port & 1 == 0) {
    case (true, true): master.writeCommand(value)
    case (true, false): master.writeData(value)
    case (false, true): slave.writeCommand(value)
    case (false, false): slave.writeData(value)
    }
    update()
  }

  /// The edge/level registers, ports 0x4d0 and 0x4d1; lines 0, 1, 2, 8 and 13 are always edge-triggered.
  var levelLines: UInt16 {
    get { UInt16(master.levelInputs) | UInt16(slave.levelInputs) << 8 }
    set {
      master.levelInputs = UInt8(truncatingIfNeeded: newValue) & 0xf8
      slave.levelInputs = UInt8(truncatingIfNeeded: newValue >> 8) & 0xde
    }
  }
}

// MARK: Saved form

extension LegacyChip {
  struct Saved: Codable, Sendable, Equatable {
    var levelInputs: UInt8
    var lines: UInt8
    var requests: UInt8
    var inService: UInt8
    var mask: UInt8
    var vectorBase: UInt8
    var first: UInt8
    var expectedWord: Int
    var isSingle: Bool
    var needsFourthWord: Bool
    var endsAutomatically: Bool
    var rotatesAutomatically: Bool
    var hasSpecialMask: Bool
    var isFullyNested: Bool
    var readsInService: Bool
    var polls: Bool
  }

  func save() -> Saved {
    Saved(
      levelInputs: levelInputs, lines: lines, requests: requests, inService: inService, mask: mask,
      vectorBase: vectorBase, first: first, expectedWord: expectedWord, isSingle: isSingle,
      needsFourthWord: needsFourthWord, endsAutomatically: endsAutomatically,
      rotatesAutomatically: rotatesAutomatically, hasSpecialMask: hasSpecialMask, isFullyNested: isFullyNested,
      readsInService: readsInService, polls: polls)
  }

  init(_ saved: Saved, isMaster: Bool) throws(RestoreFailure) {
    self.init(isMaster: isMaster)
    let levels: UInt8 = isMaster ? 0xf8 : 0xde
    try restoring(
      "interrupt controller",
      requires: saved.vectorBase & 7 == 0 && saved.first < 8 && [0, 2, 3, 4].contains(saved.expectedWord)
        && saved.levelInputs & ~levels == 0, "its registers have values that can't be")
    levelInputs = saved.levelInputs
    (lines, requests, inService, mask) = (saved.lines, saved.requests, saved.inService, saved.mask)
    (vectorBase, first, expectedWord) = (saved.vectorBase, saved.first, saved.expectedWord)
    (isSingle, needsFourthWord) = (saved.isSingle, saved.needsFourthWord)
    (endsAutomatically, rotatesAutomatically) = (saved.endsAutomatically, saved.rotatesAutomatically)
    (hasSpecialMask, isFullyNested) = (saved.hasSpecialMask, saved.isFullyNested)
    (readsInService, polls) = (saved.readsInService, saved.polls)
  }
}

extension LegacyController {
  struct Saved: Codable, Sendable, Equatable {
    var master: LegacyChip.Saved
    var slave: LegacyChip.Saved
  }

  func save() -> Saved { Saved(master: master.save(), slave: slave.save()) }

  init(_ saved: Saved) throws(RestoreFailure) {
    master = try LegacyChip(saved.master, isMaster: true)
    slave = try LegacyChip(saved.slave, isMaster: false)
    update()
  }
}
