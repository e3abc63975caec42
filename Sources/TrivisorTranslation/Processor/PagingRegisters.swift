import TrivisorX86

/// The control registers that say how a linear address is translated (AMD64 APM vol. 2, 5.1).
struct PagingRegisters: Equatable {
  var cr0: CR0 = .extensionType
  /// The root of the tables, and cache attributes.
  var cr3: UInt64 = 0
  var cr4: CR4 = []
  var efer: EFER = []

  /// CR0.PG.
  var isPaging: Bool { cr0.contains(.paging) }
  /// EFER.LMA.
  var isLongMode: Bool { efer.contains(.longModeActive) }
  /// Pages of user code have keys that count.
  var hasProtectionKeys: Bool { cr4.contains(.protectionKeys) && isLongMode }
  /// Outside long mode, the top level is PAE's four entries.
  var usesPointerTable: Bool { isPaging && cr4.contains(.physicalAddressExtension) && !isLongMode }
}
