/// Who keeps descriptor tables that lie in no memory that page tables name: a domain's hypervisor.
package protocol DescriptorKeeper: AnyObject {
  /// Eight bytes of the global or the local table, whichever the selector names; its requested privilege does not count.
  /// - Returns: `nil` if they lie outside of the table.
  func descriptor(_ selector: UInt16) -> UInt64?
  /// The processor has used a descriptor that it has found: A is set.
  func noteAccessed(_ selector: UInt16)
}
