import Testing
import TrivisorInstructionSet
import TrivisorVMM

@testable import TrivisorTranslation

/// What a block may leave in the records is counted on before it is made.
@Suite("records of a block") struct BlockRecordTests {
  /// Instructions of a block at the most (`BlockPlan+Loops`).
  private static let instructions = 48

  @Test("no instruction leaves more than its share", arguments: [CPUMode.bits64, .bits32, .bits16], [true, false])
  func shares(bits: CPUMode, isBouncing: Bool) throws {
    let model = ProcessorModel.default
    let announced = AnnouncedFeatures(CPUIDTable(features: model.features, processor: 0, of: 1, name: model.name))
    let memory = try GuestMemory(size: 4 << 20)
    let cache = try TranslationCache(announced: announced, memory: PhysicalMemory(memory))
    var mode = CodeMode.reset
    (mode.bits, mode.hasSSE, mode.hasAVX, mode.isUser, mode.isKernel) = (bits, true, true, false, true)
    // Segments that have to be asked for leave most.
    mode.isFlat = bits == .bits64
    let number = cache.number(of: mode, probably: 0, ProcessorTurn())
    _ = cache.markAsCode(1)
    let variant: BlockKey.Variant = isBouncing ? .bouncing : .usual
    let key = BlockKey(page: 1, secondPage: .max, rip: 0x1000, mode: number | variant.rawValue)
    let escapes: [[UInt8]] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a], [0xc4, 0xe1, 0x78], [0xc4, 0xe2, 0x7d]]
    var most = (sites: 0, faults: 0, instructions: 0, notes: 0)
    for escape in escapes {
      for prefix in [[], [0x66], [0xf3], [0xf2], [0xf0], [0x65]] as [[UInt8]] {
        for opcode in UInt8.min...UInt8.max {
          for modRM in (0..<8).map({ 0x43 | $0 << 3 }) + [0xc4, 0xe1] as [UInt8] {
            let bytes = prefix + escape + [opcode, modRM] + [UInt8](repeating: 0x24, count: 16)
            if cache.translator.isFull { cache.removeAll() }
            let before = cache.translator.recordCounts
            let made = bytes.withUnsafeBytes { bytes in
              var decoded = Instruction(mode: bits)
              guard case .decoded = Decoder(mode: bits).decode(bytes, into: &decoded) else { return false }
              let one = UnsafeRawBufferPointer(rebasing: bytes[..<Int(decoded.length)])
              return cache.translator.translate(one, key: key, mode: mode) != nil
            }
            guard made else { continue }
            let behind = cache.translator.recordCounts
            most.sites = max(most.sites, behind.sites - before.sites)
            most.faults = max(most.faults, behind.faults - before.faults)
            most.instructions = max(most.instructions, behind.instructions - before.instructions)
            most.notes = max(most.notes, behind.notes - before.notes)
          }
        }
      }
    }
    #expect(most.sites > 0 && most.faults > 0)
    #expect(max(most.sites, most.faults) * Self.instructions < TranslationRecords.placesOfBlock, "\(most)")
    #expect(max(most.instructions, most.notes) * Self.instructions < TranslationRecords.instructionsOfBlock, "\(most)")
  }
}
