import TrivisorVMM

/// A guest in memory, ready for its first instruction.
public struct LoadedGuest: Sendable, Equatable {
  /// What the image was taken for.
  public let kind: ImageKind
  /// Where it begins.
  public var handover: Handover
  /// What the guest was told of its memory, if it was told.
  public let memoryMap: MemoryMap
  /// What went where, a line each, for the curious.
  public let notes: [String]

  init(kind: ImageKind, handover: Handover, memoryMap: MemoryMap, notes: [String]) {
    self.kind = kind
    self.handover = handover
    self.memoryMap = memoryMap
    self.notes = notes
  }

  /// A guest that begins on the bootstrap processor of a machine.
  init(
    kind: ImageKind, general: GeneralRegisters, system: SystemRegisters, memoryMap: MemoryMap, notes: [String]
  ) {
    self.init(
      kind: kind, handover: .processor(ProcessorStart(general: general, system: system)), memoryMap: memoryMap,
      notes: notes)
  }
}
