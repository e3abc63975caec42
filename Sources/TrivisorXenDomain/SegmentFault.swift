import TrivisorX86

/// What the processor raises when it can't load a segment register.
struct SegmentFault: Error, Equatable {
  let vector: ExceptionVector
  /// The selector without its requested privilege level, or 0.
  let errorCode: UInt64

  init(_ vector: ExceptionVector, _ selector: UInt16) {
    self.vector = vector
    errorCode = UInt64(selector & ~3)
  }
}
