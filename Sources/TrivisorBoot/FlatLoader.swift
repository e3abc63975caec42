import TrivisorVMM

/// Flat images: bytes without a header, put at an address and jumped to.
///
/// | kind   | loaded at | mode                                       | also                                        |
/// |--------|-----------|--------------------------------------------|---------------------------------------------|
/// | flat16 | 0x7c00    | real, CS:IP 0:7c00, SS:SP 0:7c00           | DL 0x80, as firmware says "first hard disk" |
/// | flat32 | 1 MiB     | 32-bit protected, no paging                | a descriptor table, a stack                 |
/// | flat64 | 1 MiB     | 64-bit, the low 4 GiB mapped to themselves | a descriptor table, a stack                 |
struct FlatLoader {
  let request: BootRequest
  let kind: ImageKind

  private var image: BootImage { request.image }
  private static let firstHardDisk: UInt64 = 0x80

  func load(_ layout: inout GuestLayout) throws(BootFailure) -> LoadedGuest {
    let base = request.loadAddress ?? (kind == .flat16 ? BootRequest.bootSectorAddress : MemoryMap.extendedBase)
    // Who names an address may mean firmware, which lies where a PC has its ROM.
    try layout.claim(base, size: image.size, for: "the image", reservedToo: request.loadAddress != nil)
    let entry = request.entry ?? base
    guard entry >= base, entry - base < image.size else {
      throw BootFailure(image.name, .entryOutsideImage(entry: entry))
    }
    try image.copy("the image", at: 0, count: image.size, to: base, of: layout.memory)
    let state = try entryState(entry, &layout)
    return LoadedGuest(
      kind: kind, general: state.general, system: state.system, memoryMap: layout.map,
      notes: [
        "\(kind.rawValue): \(image.size) bytes at \(hexadecimal(base)), entry \(hexadecimal(entry))"
      ])
  }

  private func entryState(_ entry: UInt64, _ layout: inout GuestLayout) throws(BootFailure) -> EntryState {
    switch kind {
    case .flat16:
      guard entry < MemoryMap.extendedBase else {
        throw BootFailure(
          image.name,
          .unsupported(
            "the entry point \(hexadecimal(entry)) can't be reached in real mode",
            remedy: "choose \(Setting.loadAddress) and \(Setting.entry) below 1 MiB"))
      }
      var state = EntryState.realMode(entry: entry, stackTop: UInt16(BootRequest.bootSectorAddress))
      state.general.rdx = Self.firstHardDisk
      return state
    case .flat64:
      return try EntryState.withStack(entry: entry, longMode: true, &layout)
    default:
      return try EntryState.withStack(entry: entry, longMode: false, &layout)
    }
  }
}
