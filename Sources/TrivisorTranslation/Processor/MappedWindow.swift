/// Linear addresses that lie outside of what a guest's page tables say and that everybody may read: a table of its hypervisor's.
package struct MappedWindow: Sendable {
  let addresses: Range<UInt64>
  /// Where the first of them is.
  let physical: UInt64

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package init(_ addresses: Range<UInt64>, at physical: UInt64) {
    self.addresses = addresses
    self.physical = physical
  }
}
