// Guest instructions in, host instructions out: bytes become a plan (`BlockPlan`), the plan becomes code (`BlockEmitter`).

import TrivisorInstructionSet

/// Translates one block after another into the code cache.
final class Translator {
  let cache: CodeCache
  let announced: AnnouncedFeatures
  /// Every sensitive instruction is to be carried out by Swift.
  var tracesSensitive = false
  @exclusivity(unchecked) private var records = TranslationRecords()
  private let decoders: (Decoder, Decoder, Decoder)

  init(cache: CodeCache, announced: AnnouncedFeatures) {
    self.cache = cache
    self.announced = announced
    decoders = (Decoder(mode: .bits16), Decoder(mode: .bits32), Decoder(mode: .bits64))
  }

  var sites: [Site] { _read { yield records.sites } }
  var faults: [FaultRange] { _read { yield records.faults } }
  /// What `callOut` sites name.
  var instructions: [Instruction] { _read { yield records.instructions } }
  /// What `unsupported` sites name.
  var reasons: [String] { records.reasons }

  /// What numbers in the state block name, but for those below `X87Note.first`.
  func x87Note(_ number: UInt32) -> X87Note? { records.x87Note(number) }

  /// Forgets everything: the cache is empty again.
  func removeAll() {
    records.removeAll()
    cache.removeAll()
  }

  private func decoder(_ mode: CodeMode) -> Decoder {
    switch mode.bits {
    case .bits16: decoders.0
    case .bits32: decoders.1
    case .bits64: decoders.2
    }
  }

  /// Translates what begins in `bytes`, which end at a page's end or, for a straddling instruction, behind it.
  /// - Returns: `nil` if the first instruction needs more bytes.
  func translate(_ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode) -> Block? {
    guard let plan = BlockPlan(bytes, key: key, mode: mode, decoder: decoder(mode)) else { return nil }
    let block = Block(key: key, host: cache.emitter().address)
    var emitter = BlockEmitter(plan, block, into: cache, announced: announced, tracesSensitive: tracesSensitive)
    // The records move into the emitter and back: there is one owner at a time, and nothing is copied.
    swap(&emitter.records, &records)
    emitter.emit()
    swap(&emitter.records, &records)
    return block
  }

  /// Whether the first instruction in `bytes` goes on behind them.
  func needsMore(_ bytes: UnsafeRawBufferPointer, mode: CodeMode) -> Bool {
    var instruction = Instruction(mode: mode.bits)
    if case .needsMoreBytes = decoder(mode).decode(bytes, into: &instruction) { return true }
    return false
  }
}
