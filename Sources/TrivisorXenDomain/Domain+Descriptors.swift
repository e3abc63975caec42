import Synchronization

/// Descriptor tables of a domain's processors, for an executor that loads segment registers itself: the guest's own entries, as
/// the hypervisor has checked them, and Xen's.
extension Domain {
  /// The descriptor that a selector names; its requested privilege does not count.
  /// - Parameter number: the processor's, whose tables they are.
  /// - Returns: `nil` if it lies outside of its table, or in no memory.
  public func descriptor(_ selector: UInt16, ofProcessor number: Int) -> UInt64? {
    lock.withLock { _ in processors[number].descriptor(selector)?.raw }
  }

  /// A descriptor has been loaded: its accessed bit is set.
  public func noteAccessedDescriptor(_ selector: UInt16, ofProcessor number: Int) {
    lock.withLock { _ in processors[number].loads.noteAccessed(selector) }
  }
}
