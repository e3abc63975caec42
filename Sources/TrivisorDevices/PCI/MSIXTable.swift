// MSI-X: a table of messages, one for each of a function's interrupts, and a bit for each that waits because it is masked
// (PCI Local Bus Specification 3.0, 6.8.2).
//
// Table and pending bits share a region, the pending bits in its upper half.

import TrivisorVMM

/// The messages of one function, as a value.
struct MSIXTable: Sendable {
  /// Bits of an entry and of the capability's message control.
  private enum Bit {
    static let entryMasked: UInt32 = 1 << 0
    static let enabled: UInt16 = 1 << 15
    static let functionMasked: UInt16 = 1 << 14
  }

  /// In the guest's memory layout: address, upper address, data, vector control.
  private struct Entry: Sendable {
    var words: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, Bit.entryMasked)

    var isMasked: Bool { words.3 & Bit.entryMasked != 0 }
    var message: InterruptMessage {
      InterruptMessage(address: UInt64(words.1) << 32 | UInt64(words.0), data: words.2)
    }

    subscript(index: Int) -> UInt32 {
      get {
        switch index {
        case 0: words.0
        case 1: words.1
        case 2: words.2
        default: words.3
        }
      }
      set {
        switch index {
        // Messages go to doublewords.
        case 0: words.0 = newValue & ~3
        case 1: words.1 = newValue
        case 2: words.2 = newValue
        default: words.3 = newValue & Bit.entryMasked
        }
      }
    }
  }

  private static let entrySize = 16
  /// The most that a function can have.
  static let maximumCount = 2048
  /// What of message control can be written.
  static let writableControl = Bit.enabled | Bit.functionMasked

  private var entries: [Entry]
  private var pending: [Bool]
  /// Of message control, the two bits that software sets.
  private var control: UInt16 = 0

  /// - Parameter count: messages, 1 to 2048.
  init(count: Int) {
    let count = min(max(count, 1), Self.maximumCount)
    entries = Array(repeating: Entry(), count: count)
    pending = Array(repeating: false, count: count)
  }

  var count: Int { entries.count }
  var isEnabled: Bool { control & Bit.enabled != 0 }
  private var isMasked: Bool { control & Bit.functionMasked != 0 }

  /// Bytes of the region: a power of two, at least a page, so that nothing else is in the table's page.
  var regionSize: UInt32 {
    var size: UInt32 = 0x1000
    while Int(size / 2) < entries.count * Self.entrySize { size *= 2 }
    return size
  }

  private var pendingOffset: UInt64 { UInt64(regionSize / 2) }

  /// The capability behind its type and link: message control, where the table is, where the pending bits are.
  func capability(region: Int) -> [UInt8] {
    littleEndian(UInt64(entries.count - 1), count: 2) + littleEndian(UInt64(region), count: 4)
      + littleEndian(pendingOffset | UInt64(region), count: 4)
  }

  /// - Returns: what waited and is to be sent now.
  mutating func setControl(_ value: UInt16) -> [InterruptMessage] {
    control = value & Self.writableControl
    return takeUnmasked()
  }

  /// The function has a reason to interrupt.
  /// - Returns: what is to be sent; nothing for a vector that is not there, or while it is masked.
  mutating func trigger(_ vector: Int) -> InterruptMessage? {
    guard isEnabled, entries.indices.contains(vector) else { return nil }
    guard !isMasked, !entries[vector].isMasked else {
      pending[vector] = true
      return nil
    }
    return entries[vector].message
  }

  private mutating func takeUnmasked() -> [InterruptMessage] {
    guard isEnabled, !isMasked else { return [] }
    var messages: [InterruptMessage] = []
    for vector in entries.indices where pending[vector] && !entries[vector].isMasked {
      pending[vector] = false
      messages.append(entries[vector].message)
    }
    return messages
  }

  mutating func reset() { self = MSIXTable(count: entries.count) }

  // MARK: The region

  /// Doublewords, and quadwords as two of them; nothing else has a meaning.
  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    switch width {
    case .doubleword where offset & 3 == 0: UInt64(read(offset))
    case .quadword where offset & 7 == 0: UInt64(read(offset)) | UInt64(read(offset + 4)) << 32
    default: 0
    }
  }

  private func read(_ offset: UInt64) -> UInt32 {
    if offset >= pendingOffset {
      let first = Int(offset - pendingOffset) * 8
      var bits: UInt32 = 0
      for bit in 0..<32 where pending.indices.contains(first + bit) && pending[first + bit] { bits |= 1 << UInt32(bit) }
      return bits
    }
    let index = Int(offset) / Self.entrySize
    return entries.indices.contains(index) ? entries[index][Int(offset) % Self.entrySize / 4] : 0
  }

  /// - Returns: what waited and is to be sent now.
  mutating func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> [InterruptMessage] {
    switch width {
    case .doubleword where offset & 3 == 0: write(UInt32(truncatingIfNeeded: value), offset)
    case .quadword where offset & 7 == 0:
      write(UInt32(truncatingIfNeeded: value), offset)
      write(UInt32(truncatingIfNeeded: value >> 32), offset + 4)
    default: return []
    }
    return takeUnmasked()
  }

  private mutating func write(_ value: UInt32, _ offset: UInt64) {
    let index = Int(offset) / Self.entrySize
    guard offset < pendingOffset, entries.indices.contains(index) else { return }
    entries[index][Int(offset) % Self.entrySize / 4] = value
  }

  // MARK: Saved form

  struct Saved: Codable, Sendable, Equatable {
    var control: UInt16
    /// Four words for each entry.
    var entries: [UInt32]
    var pending: [Bool]
  }

  func save() -> Saved {
    Saved(control: control, entries: entries.flatMap { entry in (0..<4).map { entry[$0] } }, pending: pending)
  }

  /// - Throws: `RestoreFailure` for another number of entries, or bits that they don't keep; nothing has changed then.
  mutating func restore(_ saved: Saved) throws(RestoreFailure) {
    let subject = "MSI-X table"
    try restoring(
      subject, requires: saved.entries.count == 4 * entries.count && saved.pending.count == entries.count,
      "it has \(saved.entries.count / 4) entries, not \(entries.count)")
    var restored = entries
    for (index, word) in saved.entries.enumerated() {
      restored[index / 4][index % 4] = word
      try restoring(
        subject, requires: restored[index / 4][index % 4] == word,
        "a word of entry \(index / 4) is \(hexadecimal(UInt64(word)))")
    }
    try restoring(
      subject, requires: saved.control & ~Self.writableControl == 0, "its control has bits that it doesn't keep")
    (entries, pending, control) = (restored, saved.pending, saved.control)
  }
}
