// Guest instructions in, host instructions out: bytes become a plan (`BlockPlan`), the plan becomes code (`BlockEmitter`).

import Glibc
import TrivisorInstructionSet
import TrivisorVMM

/// Translates one block after another into the code cache.
final class Translator {
  let cache: CodeCache
  let announced: AnnouncedFeatures
  /// Several processors run the code.
  let isShared: Bool
  /// Every sensitive instruction is to be carried out by Swift.
  var tracesSensitive = false
  /// Where blocks end for a debugger's sake.
  var breakpoints = PlannedBreakpoints.none
  @exclusivity(unchecked) private var records = TranslationRecords()
  @exclusivity(unchecked) private var workspace = BlockWorkspace()
  @exclusivity(unchecked) private var templates = TemplateTable()
  private let decoder16 = Decoder(mode: .bits16)
  private let decoder32 = Decoder(mode: .bits32)
  private let decoder64 = Decoder(mode: .bits64)

  /// - Throws: `TechniqueFailure` when the host refuses memory.
  init(announced: AnnouncedFeatures, isShared: Bool) throws(TechniqueFailure) {
    self.isShared = isShared
    cache = try CodeCache()
    self.announced = announced
    guard records.makeRoom(), templates.makeRoom() else {
      throw TechniqueFailure(
        call: "mmap of the translator's records", reason: String(cString: strerror(errno)),
        remedy: "raise the process's limits (ulimit -v)")
    }
  }

  /// Whether a block may not fit any more, for want of code memory or of the host's: then everything must be thrown away before the
  /// next one.
  var isFull: Bool { cache.isFull || !records.makeRoom() }

  /// How many records there are: for tests.
  var recordCounts: (sites: Int, faults: Int, instructions: Int, notes: Int) { records.counts }

  @inline(__always)
  func site(_ number: Int) -> Site { records.sites[number] }
  @inline(__always)
  func fault(_ number: Int) -> FaultRange { records.faults[number] }
  /// What `callOut` sites name.
  func instruction(_ number: Int) -> Instruction { records.instructions[number] }
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
    case .bits16: decoder16
    case .bits32: decoder32
    case .bits64: decoder64
    }
  }

  /// Translates what begins in `bytes`, which end at a page's end or, for a straddling instruction, behind it.
  /// - Returns: `nil` if the first instruction needs more bytes.
  func translate(_ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode) -> Block? {
    let isPlanned = workspace.plan.prepare(
      bytes, key: key, mode: mode, decoder: decoder(mode), templates: &templates, breakpoints: breakpoints)
    guard isPlanned else { return nil }
    let block = Block(key: key, host: cache.emitter().address)
    // Workspace and records move into the emitter and back: there is one owner at a time, and nothing is copied.
    var emitter = BlockEmitter(
      workspace.plan.key, mode, block, into: cache, announced: announced, tracesSensitive: tracesSensitive,
      isShared: isShared)
    swap(&emitter.work, &workspace)
    swap(&emitter.records, &records)
    emitter.emit()
    swap(&emitter.work, &workspace)
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
