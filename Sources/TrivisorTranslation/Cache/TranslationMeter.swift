// The translator by itself, for whoever wants to know what a block costs.

import TrivisorInstructionSet
import TrivisorVMM

/// Translates code that is not run.
package final class TranslationMeter {
  /// What was translated.
  package struct Totals {
    package var blocks = 0
    package var guestBytes = 0
    package var hostBytes = 0
  }

  private let translations: TranslationCache
  private let mode: UInt8
  package private(set) var totals = Totals()

  /// - Throws: `TechniqueFailure` when the host refuses memory.
  package init(memory: GuestMemory, isUser: Bool) throws(TechniqueFailure) {
    let model = ProcessorModel.default
    let identification = CPUIDTable(features: model.features, processor: 0, of: 1, name: model.name)
    translations = try TranslationCache(announced: AnnouncedFeatures(identification), memory: PhysicalMemory(memory))
    var mode = CodeMode.reset
    mode.bits = .bits64
    mode.isUser = isUser
    mode.isKernel = !isUser
    mode.hasSSE = true
    mode.hasAVX = true
    self.mode = translations.number(of: mode, probably: 0, ProcessorTurn())
  }

  /// Translates what a physical page holds, block behind block from its first byte on.
  package func translate(_ bytes: UnsafeRawBufferPointer, page: UInt64, linear: UInt64) {
    _ = translations.markAsCode(page)
    guard let mode = translations.mode(numbered: UInt64(mode)) else { return }
    var offset = 0
    while offset < bytes.count {
      if translations.translator.isFull { translations.removeAll() }
      let rip = mode.isRelative ? UInt64(offset) : linear &+ UInt64(offset)
      let key = BlockKey(page: page, secondPage: .max, rip: rip, mode: self.mode)
      guard let made = translations.make(UnsafeRawBufferPointer(rebasing: bytes[offset...]), key: key, mode: mode)
      else {
        return
      }
      totals.blocks += 1
      totals.guestBytes += made.length
      totals.hostBytes += Int(made.hostEnd &- made.host)
      offset += made.length
    }
  }
}
