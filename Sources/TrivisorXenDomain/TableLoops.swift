import TrivisorInterpretation
import TrivisorVMM

/// Kernels look up one frame after the other in the machine-to-physical table while they build page tables, and of 64 bits each of these loads
/// traps where code runs in a process. So after some of them the code around is interpreted for as long as it goes on with such loads,
/// here, where the table is memory; the executor has it back in front of the first instruction that is not plain.
///
/// All is done with the domain's lock held: nothing of its page tables changes meanwhile, and pages are used by the rules by which they are
/// mapped (`PageFaults`).
final class TableLoops: InterpretedMemory {
  private unowned let processor: DomainProcessor
  private var executor: (any DomainExecutor)?
  private var interpreter: Interpreter?
  /// How many loads come between two attempts; and how many of them are still to come.
  private var interval = TableLoops.shortestInterval
  /// Loads that the executor may still serve by itself.
  private(set) var loadsBefore = TableLoops.shortestInterval
  /// How many instructions were interpreted.
  private(set) var instructionCount: UInt64 = 0

  private static let shortestInterval: UInt32 = 32
  private static let longestInterval: UInt32 = 1 << 16
  /// What an attempt costs: coming back to the monitor, and decoding, is so many loads that the executor serves.
  private static let loadsThatPay = 32
  /// Instructions of one attempt, less than a millisecond, in which the lock is held; and between two loads, less than one that traps.
  private static let instructionLimit = 1 << 16
  private static let patience = 256

  init(_ processor: DomainProcessor) { self.processor = processor }

  /// The executor has served so many.
  func noteServed(_ count: UInt32) { loadsBefore -= min(count, loadsBefore) }

  /// Behind a load that came back: goes on from there.
  func follow(for executor: any DomainExecutor) {
    guard loadsBefore <= 1 else { return loadsBefore -= 1 }
    let registers = processor.registers
    // What the processor does with alignment and single steps, it is to do itself.
    guard processor.mode == .kernel, processor.domain.layout == .bits64,
      UInt64(registers.cs.selector) == Selectors.code64,
      registers.rflags & (Flags.trap | Flags.alignment) == 0, !processor.hasPendingUpcall
    else { return }
    let interpreter = interpreter ?? Interpreter(in: self)
    self.interpreter = interpreter
    self.executor = executor
    for number in 0..<16 { interpreter[general: number] = registers.general(number) }
    (interpreter.rip, interpreter.flags) = (registers.rip, registers.rflags)
    interpreter.segmentBases = (registers.fsBase, registers.gsBase)
    let outcome = interpreter.run(limit: Self.instructionLimit, patience: Self.patience)
    for number in 0..<16 { processor.registers.setGeneral(number, interpreter[general: number]) }
    (processor.registers.rip, processor.registers.rflags) = (interpreter.rip, interpreter.flags)
    self.executor = nil
    processor.count(.tableLoadInterpreted, UInt64(outcome.soughtCount))
    instructionCount &+= UInt64(outcome.instructionCount)
    if outcome.soughtCount >= Self.loadsThatPay {
      (interval, loadsBefore) = (Self.shortestInterval, 0)
    } else {
      loadsBefore = interval
      interval = min(2 * interval, Self.longestInterval)
    }
  }

  func page(at address: UInt64, for use: PageUse) -> InterpretedPage? {
    let memory = processor.domain.memory
    let table = memory.machineTable.addresses
    if address >= table.lowerBound {
      let page = (address - table.lowerBound) >> 12
      guard use == .read, page <= (table.upperBound - 1 - table.lowerBound) >> 12,
        let host = memory.frames.bytes(memory.machineTable.firstFrame + page)
      else { return nil }
      return InterpretedPage(host: host, isSought: true)
    }
    guard let leaf = memory.tables.leaf(address, root: processor.root), leaf.isPresent,
      use != .write || leaf.isWritable, use != .execute || leaf.isExecutable, executor?.canReach(address) ?? false,
      memory.frames.isOwned(PageTables.frame(leaf.entry)),
      let host = memory.frames.bytes(PageTables.frame(leaf.entry)),
      let entry = memory.frames.entry(leaf.table, leaf.position)
    else { return nil }
    let bits = PageTables.accessed | (use == .write ? PageTables.dirty : 0)
    if entry.pointee & bits != bits { entry.pointee |= bits }
    return InterpretedPage(host: host)
  }
}
