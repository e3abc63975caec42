// The I/O APIC: 24 inputs, each with an entry that says to which processors and as which vector it goes.
//
// Lines say "asserted", not high or low, so an entry's polarity changes nothing, as under KVM.
//
// Sources: Intel 82093AA data sheet; the rules of remote IRR: Intel SDM vol. 3, 11.8.4 and 11.11.

import TrivisorVMM

/// An I/O APIC of version 0x11.
struct IOAPIC {
  static let inputCount = 24

  /// A message that an input or a device sends, or a processor's command.
  struct Message {
    var vector: UInt8
    var mode: DeliveryMode
    var isLogical: Bool
    var destination: UInt32
    /// The destination has 32 bits: a command of an x2APIC.
    var isWide = false
    var isLevel: Bool
    /// Where it comes from, if that is an input here.
    var input: Int? = nil
  }

  private enum Bit {
    static let logical: UInt64 = 1 << 11, remoteRequest: UInt64 = 1 << 14, level: UInt64 = 1 << 15
    static let masked: UInt64 = 1 << 16
    /// All but delivery status, remote IRR and what is reserved.
    static let writable: UInt64 = 0xff00_0000_0001_afff
  }

  private var selected: UInt8 = 0
  private var identifier: UInt32 = 0
  private var entries = InlineArray<24, UInt64>(repeating: Bit.masked)
  /// Lines that are asserted.
  private var asserted: UInt32 = 0

  // MARK: Inputs

  /// - Returns: what goes out.
  mutating func setLine(_ line: Int, asserted isAsserted: Bool) -> Message? {
    guard (0..<Self.inputCount).contains(line) else { return nil }
    let bit: UInt32 = 1 << UInt32(line)
    let wasAsserted = asserted & bit != 0
    asserted = isAsserted ? asserted | bit : asserted & ~bit
    guard isAsserted else { return nil }
    if entries[line] & Bit.level == 0, wasAsserted { return nil }
    return service(line)
  }

  /// What the input sends now: nothing when it is masked, or when the interrupt before has not ended.
  private mutating func service(_ line: Int) -> Message? {
    let entry = entries[line]
    guard entry & Bit.masked == 0 else { return nil }
    guard let mode = DeliveryMode(rawValue: UInt32(truncatingIfNeeded: entry >> 8 & 7)) else { return nil }
    let isLevel = entry & Bit.level != 0
    // Only fixed and lowest-priority interrupts have an end that would clear remote IRR.
    if isLevel, mode == .fixed || mode == .lowestPriority {
      guard entry & Bit.remoteRequest == 0 else { return nil }
      entries[line] = entry | Bit.remoteRequest
    }
    return Message(
      vector: UInt8(truncatingIfNeeded: entry), mode: mode, isLogical: entry & Bit.logical != 0,
      destination: UInt32(truncatingIfNeeded: entry >> 56), isLevel: isLevel, input: line)
  }

  /// No local APIC has accepted what the input sent, which is what remote IRR says (82093AA data sheet, 3.2.4).
  mutating func refuse(_ line: Int) { entries[line] &= ~Bit.remoteRequest }

  /// What a level-triggered input sends because nobody has accepted it yet.
  mutating func again(_ line: Int) -> Message? {
    entries[line] & Bit.level != 0 && asserted & 1 << UInt32(line) != 0 ? service(line) : nil
  }

  /// A processor has ended `vector`: the input's own entry says whether it has more to send.
  mutating func end(_ vector: UInt8, at line: Int) -> Message? {
    let entry = entries[line]
    guard entry & Bit.level != 0, UInt8(truncatingIfNeeded: entry) == vector else { return nil }
    entries[line] = entry & ~Bit.remoteRequest
    return asserted & 1 << UInt32(line) != 0 ? service(line) : nil
  }

  // MARK: Registers

  /// At the page's offsets 0 (index) and 0x10 (window).
  func read(_ offset: UInt64) -> UInt32 {
    switch offset & 0xff {
    case 0x00: return UInt32(selected)
    case 0x10: break
    default: return 0
    }
    switch selected {
    case 0, 2: return identifier
    case 1: return 0x11 | UInt32(Self.inputCount - 1) << 16
    case 0x10..<0x40:
      let entry = entries[Int(selected - 0x10) / 2]
      return UInt32(truncatingIfNeeded: selected & 1 == 0 ? entry : entry >> 32)
    default: return 0
    }
  }

  /// - Returns: what goes out because of it.
  mutating func write(_ value: UInt32, at offset: UInt64) -> Message? {
    switch offset & 0xff {
    case 0x00: selected = UInt8(truncatingIfNeeded: value)
    case 0x10:
      switch selected {
      case 0: identifier = value & 0x0f00_0000
      case 0x10..<0x40: return writeEntry(Int(selected - 0x10) / 2, value, isHigh: selected & 1 != 0)
      default: break
      }
    default: break
    }
    return nil
  }

  private mutating func writeEntry(_ line: Int, _ value: UInt32, isHigh: Bool) -> Message? {
    let old = entries[line]
    var entry = isHigh ? old & 0xffff_ffff | UInt64(value) << 32 : old & ~0xffff_ffff | UInt64(value)
    entry = entry & Bit.writable | old & Bit.remoteRequest
    // Software clears remote IRR by going through edge and back.
    if entry & Bit.level == 0 { entry &= ~Bit.remoteRequest }
    entries[line] = entry
    guard entry & Bit.level != 0, asserted & 1 << UInt32(line) != 0 else { return nil }
    return service(line)
  }
}

// MARK: Saved form

extension IOAPIC {
  struct Saved: Codable, Sendable, Equatable {
    var selected: UInt8
    var identifier: UInt32
    var entries: [UInt64]
    var asserted: UInt32
  }

  func save() -> Saved {
    Saved(selected: selected, identifier: identifier, entries: entries.list, asserted: asserted)
  }

  init(_ saved: Saved) throws(RestoreFailure) {
    let subject = "I/O APIC"
    selected = saved.selected
    identifier = saved.identifier
    entries = try fixedStorage(saved.entries, of: "its table", subject)
    asserted = saved.asserted
    try restoring(
      subject, requires: identifier & ~0x0f00_0000 == 0 && asserted >> UInt32(Self.inputCount) == 0,
      "its registers have bits that they don't keep")
    for line in 0..<Self.inputCount {
      let entry = entries[line]
      try restoring(
        subject,
        requires: entry & ~(Bit.writable | Bit.remoteRequest) == 0
          && (entry & Bit.remoteRequest == 0 || entry & Bit.level != 0),
        "entry \(line) of its table is \(hexadecimal(entry))")
    }
  }
}
