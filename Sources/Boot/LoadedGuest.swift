import VMM

/// A guest in memory, ready for the bootstrap processor's first instruction.
public struct LoadedGuest: Sendable, Equatable {
  /// What the image was taken for.
  public let kind: ImageKind
  /// The integer registers at the first instruction.
  public let general: GeneralRegisters
  /// Segments, tables and control registers at the first instruction.
  public let system: SystemRegisters
  /// What the guest was told of its memory, if it was told.
  public let memoryMap: MemoryMap
  /// What went where, a line each, for the curious.
  public let notes: [String]

  /// Puts the bootstrap processor, otherwise as after RESET, before the first instruction.
  public func apply(to state: inout MachineState) {
    let apicBase = state.system.apicBase
    state.general = general
    state.system = system
    state.system.apicBase = apicBase
    state.activity = .running
  }
}
