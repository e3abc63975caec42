import TrivisorVMM

/// The "zero page", `struct boot_params`, by which a kernel entered as packaged learns everything (Linux's
/// Documentation/arch/x86/zero-page.rst).
struct BootParameters {
  let header: LinuxSetupHeader
  /// Where the protected-mode kernel was loaded.
  let kernel: UInt64
  let commandLine: UInt64
  let ramdisk: InitialRamdisk?
  let rootSystemDescriptionPointer: GuestPhysicalAddress?
  /// Bytes for the guest's random number generator; none if empty.
  let randomSeed: [UInt8]

  private static let size = 4096
  private static let maximumMapEntries = 128
  private static let noLoaderIdentifier: UInt8 = 0xff
  private static let normalVideoMode: UInt16 = 0xffff
  /// SETUP_RNG_SEED
  private static let randomSeedType: UInt32 = 9

  private enum Field {
    static let acpiRSDP = 0x070
    static let ramdiskImageHigh = 0x0c0
    static let ramdiskSizeHigh = 0x0c4
    static let commandLineHigh = 0x0c8
    static let mapCount = 0x1e8
    static let videoMode = 0x1fa
    static let loaderType = 0x210
    static let loadFlags = 0x211
    static let code32Start = 0x214
    static let ramdiskImage = 0x218
    static let ramdiskSize = 0x21c
    static let commandLine = 0x228
    static let setupData = 0x250
    static let map = 0x2d0
  }
  /// Of the image's load flags, the ones that are the image's to set.
  private static let imageLoadFlags: UInt8 = 0x21

  /// Places and stores them, with the data that they point to.
  /// - Returns: their address.
  func store(_ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    let part = "the boot parameters"
    let entries = layout.map.entries
    guard entries.count <= Self.maximumMapEntries else {
      throw BootFailure(
        layout.image,
        .unsupported(
          "has a memory map of \(entries.count) entries, and Linux's boot parameters take \(Self.maximumMapEntries)",
          remedy: "reserve fewer ranges"))
    }
    var record = GuestRecord()
    record.put(UInt8(0), at: Self.size - 1)
    record.put(header.bytes, at: LinuxSetupHeader.offset)
    record.put(Self.normalVideoMode, at: Field.videoMode)
    record.put(Self.noLoaderIdentifier, at: Field.loaderType)
    record.put(record.bytes[Field.loadFlags] & Self.imageLoadFlags, at: Field.loadFlags)
    record.put(UInt32(truncatingIfNeeded: kernel), at: Field.code32Start)
    record.put(UInt32(truncatingIfNeeded: commandLine), at: Field.commandLine)
    record.put(UInt32(truncatingIfNeeded: commandLine >> 32), at: Field.commandLineHigh)
    let (ramdiskBase, ramdiskSize) = (ramdisk?.base ?? 0, ramdisk?.size ?? 0)
    record.put(UInt32(truncatingIfNeeded: ramdiskBase), at: Field.ramdiskImage)
    record.put(UInt32(truncatingIfNeeded: ramdiskBase >> 32), at: Field.ramdiskImageHigh)
    record.put(UInt32(truncatingIfNeeded: ramdiskSize), at: Field.ramdiskSize)
    record.put(UInt32(truncatingIfNeeded: ramdiskSize >> 32), at: Field.ramdiskSizeHigh)
    record.put(rootSystemDescriptionPointer?.rawValue ?? 0, at: Field.acpiRSDP)
    record.put(try storeSetupData(&layout), at: Field.setupData)
    record.put(UInt8(truncatingIfNeeded: entries.count), at: Field.mapCount)
    for (index, entry) in entries.enumerated() {
      let position = Field.map + index * 20
      record.put(entry.base, at: position)
      record.put(entry.size, at: position + 8)
      record.put(entry.kind.rawValue, at: position + 16)
    }
    let base = try layout.placeStructure(part, size: UInt64(Self.size))
    try layout.store(record.bytes, at: base, as: part)
    return base
  }

  /// The list of `struct setup_data`: address of the next, type, length, data.
  private func storeSetupData(_ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    guard !randomSeed.isEmpty else { return 0 }
    let part = "the random seed"
    var record = GuestRecord()
    record.append(UInt64(0))
    record.append(Self.randomSeedType)
    record.append(UInt32(clamping: randomSeed.count))
    record.put(randomSeed, at: record.bytes.count)
    let base = try layout.placeStructure(part, size: UInt64(record.bytes.count), alignment: 16)
    try layout.store(record.bytes, at: base, as: part)
    return base
  }
}
