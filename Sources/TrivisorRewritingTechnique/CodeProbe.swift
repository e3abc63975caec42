// Translated code without a machine around it, for tests that compare it with the host's processor.

import TrivisorDevices
import TrivisorInstructionSet
import TrivisorTranslation
import TrivisorVMM
import TrivisorX86

/// A processor that runs code from a given state up to its first exception, which is not delivered but told.
///
/// Used on the thread that made it. It is the first processor of its machine, and the others never start.
package final class CodeProbe {
  /// Why the code came to an end.
  package enum Ending: Equatable {
    /// `address`: CR2 of a page fault.
    case exception(vector: UInt8, errorCode: UInt32?, address: UInt64?)
    /// The engine cannot run this.
    case unsupported(String)
    /// HLT, a request to stop, a device's wish.
    case stopped
  }

  private let partition: RewritingPartition
  private let owner: RewritingProcessor
  private let processor: TranslatedProcessor

  /// - Throws: `TechniqueFailure` when the host refuses memory or handlers.
  package init(_ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus) throws(TechniqueFailure) {
    let made = try RewritingTechnique().makePartition(configuration, memory: memory, bus: bus)
    guard let partition = made as? RewritingPartition else {
      throw TechniqueFailure(call: "making a partition", reason: "it is another technique's")
    }
    self.partition = partition
    owner = try partition.makeFirstProcessor()
    processor = owner.engine
    try processor.enterThread()
    processor.turn.enter()
  }

  deinit {
    processor.turn.leave()
    processor.leaveThread()
  }

  /// Sets everything: done once, after which the members below are changed from run to run.
  package func begin(_ change: (inout MachineState) -> Void) throws(TechniqueFailure) {
    var state = processor.readState()
    change(&state)
    try processor.writeState(state)
  }

  /// Whether the guest's CPUID announces what the instruction needs.
  package func announces(_ instruction: Instruction) -> Bool { processor.announces(instruction) }

  /// Stops a run from another thread.
  package var stopHandle: any StopHandle { processor.stop }

  /// The 16 general registers by number.
  package var general: UnsafeMutablePointer<UInt64> { processor.general }
  /// 16 registers of 32 bytes.
  package var vectors: UnsafeMutablePointer<UInt8> { processor.vectors }
  /// In FXSAVE's format.
  package var x87: UnsafeMutablePointer<UInt8> { processor.x87 }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var mxcsr: UInt32 {
    get { processor.mxcsr }
    set { processor.mxcsr = newValue }
  }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var rip: UInt64 {
    get { processor.rip }
    set { processor.rip = newValue }
  }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var rflags: UInt64 {
    get { processor.flags.rawValue }
    set { processor.flags = RFLAGS(rawValue: newValue) }
  }
  /// Bases of FS and GS.
  package var bases: (fs: UInt64, gs: UInt64) {
    get { (processor.fsBase, processor.gsBase) }
    set { (processor.fsBase, processor.gsBase) = newValue }
  }

  /// Bytes at a physical address were changed from outside.
  package func memoryChanged(at physical: UInt64, count: Int) { processor.memoryChanged(at: physical, count: count) }

  private static func ending(_ exception: GuestException) -> Ending {
    .exception(vector: exception.vector, errorCode: exception.errorCode, address: exception.address)
  }

  /// Carries out the instruction at RIP without translating it.
  /// - Parameter code: with what stands behind it, which ends with #UD.
  /// - Returns: `nil` if it is none of those that Swift carries out, or if it has made way.
  package func carryOut(_ code: [UInt8]) -> Ending? {
    let decoded = code.withUnsafeBytes { Decoder(mode: .bits64).decode($0) }
    guard case .instruction(let instruction) = decoded, instruction.classification != .undefined,
      announces(instruction)
    else { return nil }
    processor.shadow = .none
    do throws(Interruption) {
      guard try processor.carryOut(instruction) else { return nil }
      return Self.ending(.invalidOpcode)
    } catch {
      return error.exception.map(Self.ending)
    }
  }

  /// Runs up to an exception.
  package func run() -> Ending {
    processor.shadow = .none
    while true {
      if processor.stop.settle() { return .stopped }
      switch processor.run() {
      case .exception(let exception): return Self.ending(exception)
      case .stop(.stopRequested):
        if processor.activity != .running { return .stopped }
      case .stop: return .stopped
      case .unsupported(let name): return .unsupported(name)
      }
    }
  }
}
