import TrivisorVMM

/// The fixed storage of a device from a saved list.
/// - Throws: `RestoreFailure` unless the list has exactly as many elements.
func fixedStorage<let count: Int, Element>(
  _ elements: [Element], of name: String, _ subject: String
) throws(RestoreFailure) -> InlineArray<count, Element> {
  try restoring(subject, requires: elements.count == count, "\(name) has \(elements.count) elements, not \(count)")
  return InlineArray<count, Element> { elements[$0] }
}

extension InlineArray {
  /// The elements as a list, to be saved.
  var list: [Element] { indices.map { self[$0] } }
}
