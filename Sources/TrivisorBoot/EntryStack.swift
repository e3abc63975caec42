import TrivisorVMM

extension EntryState {
  private static let stackSize: UInt64 = 16 << 10

  /// Protected or long mode for an image that was promised nothing but its mode: with descriptor table, stack and, in
  /// long mode, page tables, all where the image is not.
  static func withStack(entry: UInt64, longMode: Bool, _ layout: inout GuestLayout) throws(BootFailure) -> EntryState {
    guard let entry32 = UInt32(exactly: entry) else {
      throw BootFailure(
        layout.image,
        .unsupported(
          "the entry point \(hexadecimal(entry)) lies above the 4 GiB that are mapped at first",
          remedy: "load or link the image below 4 GiB"))
    }
    let descriptors = try BootDescriptors.store(&layout, longMode: longMode)
    let stack = try layout.placeStructure("the first stack", size: stackSize)
    var state: EntryState
    if longMode {
      state = .longMode(entry: entry, pageTables: try IdentityPageTables.store(&layout), descriptors: descriptors)
    } else {
      state = .protectedMode(entry: entry32)
      state.system.gdt = descriptors
    }
    state.general.rsp = stack + stackSize
    return state
  }
}
