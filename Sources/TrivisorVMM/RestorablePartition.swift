/// A partition that can be saved: what belongs to it, and neither to a processor nor to a device on the machine's bus.
/// Restored before its processors get their states, and saved after theirs were read, so that no clock ever goes back.
public protocol RestorablePartition: Restorable where Saved: SavedState {}

extension RestorablePartition {
  /// Replaces the state by one that any partition gave.
  /// - Throws: `RestoreFailure` when it is of another technique, or not one that `save` could have given.
  public func restore(anyState saved: any SavedState) throws(RestoreFailure) {
    guard let own = saved as? Saved else {
      throw RestoreFailure("partition", "it was saved under another technique")
    }
    try restore(own)
  }
}
