import TrivisorVMM

/// What a Xen PV kernel says of itself: in ELF notes (Xen's public header elfnote.h), in segments or else in sections, or in the
/// string of a section `__xen_guest`, as kernels of before 2006 have it. All is read as libelf does (Xen's
/// common/libelf/libelf-dominfo.c).
///
/// Real kernels have malformed notes (GRUB's last one is longer than its segment), so a note that is cut off is taken as far as it
/// goes, and one that makes no sense ends the list.
struct XenNotes {
  /// XEN_ELFNOTE_….
  private enum Kind: UInt32 {
    case entry = 1
    case hypercallPage = 2
    case virtualBase = 3
    case physicalOffset = 4
    case xenVersion = 5
    case guestOS = 6
    case loader = 8
    case pageDirectory = 9
    case features = 10
    case symbols = 11
    case initialList = 15
    case moduleByFrame = 16
    case physicalEntry = 18
  }

  private static let owner = Array("Xen\0".utf8)
  /// More than any kernel has.
  private static let maximumSize: UInt64 = 1 << 16
  private static let guestSection = Array("__xen_guest\0".utf8)

  private(set) var entry: UInt64?
  private(set) var hypercallPage: UInt64?
  private(set) var virtualBase: UInt64?
  private(set) var physicalOffset: UInt64?
  /// INIT_P2M: where the list of machine frames is to be mapped, if not behind the kernel.
  private(set) var initialList: UInt64?
  /// MOD_START_PFN: the initial ramdisk need not be mapped, and is named by its frame.
  private(set) var namesModuleByFrame = false
  /// BSD_SYMTAB: the kernel's symbols follow it in memory.
  private(set) var wantsSymbols = false
  /// PAE_MODE of 32-bit kernels is "no".
  private(set) var isWithoutPAE = false
  /// PHYS32_ENTRY: it can be entered without page tables, as the guest of a virtual machine (PVH).
  private var hasPhysicalEntry = false
  private var loader = ""
  private var guestOS = ""
  private var xenVersion = ""
  private var features = ""
  private var count = 0
  private var isFromString = false

  /// Whether it is for a domain builder: a kernel with only a PVH entry is not. Linux says all else of itself, too, when it was built
  /// without CONFIG_XEN_PV.
  private var isParavirtual: Bool {
    (loader.hasPrefix("generic") || guestOS.hasPrefix("linux")) && xenVersion.hasPrefix("xen-3.0")
      && (entry != nil || !hasPhysicalEntry)
  }

  /// Whether it is Linux, which has command lines of its own.
  var isLinux: Bool { guestOS.hasPrefix("linux") }

  /// The notes of an ELF image; `nil` when it is none or has none for PV domains.
  static func find(_ image: BootImage) throws(BootFailure) -> XenNotes? {
    let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
    let table = try image.read(
      "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
    var notes = XenNotes()
    for segment in try header.segments(table) where segment.type == ELFHeader.Segment.note {
      guard segment.fileOffset < image.size else { continue }
      let size = min(segment.fileSize, image.size - segment.fileOffset, maximumSize)
      notes.add(try image.read("the notes", at: segment.fileOffset, count: Int(size)), header.elfClass)
    }
    if notes.count == 0 { try notes.addSections(of: image, header.elfClass) }
    return notes.isParavirtual ? notes : nil
  }

  private mutating func addSections(of image: BootImage, _ elfClass: ELFHeader.Class) throws(BootFailure) {
    let sections = try ELFSection.all(of: image, elfClass)
    for section in sections where section.type == ELFSection.note {
      if let bytes = try section.contents(of: image, limit: Self.maximumSize) { add(bytes, elfClass) }
    }
    guard count == 0 else { return }
    let nameTable = try ELFSection.nameTable(of: image, elfClass)
    guard sections.indices.contains(nameTable),
      let names = try sections[nameTable].contents(of: image, limit: Self.maximumSize),
      let section = sections.first(where: { names.holds(Self.guestSection, at: Int($0.nameOffset)) }),
      let bytes = try section.contents(of: image, limit: Self.maximumSize)
    else { return }
    addString(String(decoding: bytes.bytes.prefix { $0 != 0 }, as: UTF8.self))
  }

  private mutating func add(_ bytes: ImageBytes, _ elfClass: ELFHeader.Class) {
    var position = 0
    while let nameSize = bytes.value(UInt32.self, at: position), let size = bytes.value(UInt32.self, at: position + 4),
      let type = bytes.value(UInt32.self, at: position + 8), nameSize <= 256, size <= Self.maximumSize
    {
      let name = position + 12
      let description = name + (Int(nameSize) + 3) / 4 * 4
      position = description + (Int(size) + 3) / 4 * 4
      guard nameSize == 4, bytes.holds(Self.owner, at: name) else { continue }
      count += 1
      guard let kind = Kind(rawValue: type), description <= bytes.count else { continue }
      let value: UInt64? =
        switch size {
        case 8...: bytes.value(UInt64.self, at: description)
        case 4...: bytes.value(UInt32.self, at: description).map { UInt64($0) }
        case 2...: bytes.value(UInt16.self, at: description).map { UInt64($0) }
        case 1: bytes.value(UInt8.self, at: description).map { UInt64($0) }
        default: nil
        }
      let text = String(
        decoding: bytes.bytes[description..<min(description + Int(size), bytes.count)].prefix { $0 != 0 },
        as: UTF8.self)
      take(kind, value, text)
    }
  }

  private mutating func take(_ kind: Kind, _ value: UInt64?, _ text: String) {
    switch kind {
    case .entry: entry = value
    case .hypercallPage: hypercallPage = value
    case .virtualBase: virtualBase = value
    case .physicalOffset: physicalOffset = value
    case .xenVersion: xenVersion = text
    case .guestOS: guestOS = text
    case .loader: loader = text
    case .pageDirectory: isWithoutPAE = text == "no"
    case .features: features = text
    case .symbols: wantsSymbols = text == "yes"
    case .initialList: initialList = value
    case .moduleByFrame: namesModuleByFrame = value ?? 0 != 0
    case .physicalEntry: hasPhysicalEntry = true
    }
  }

  /// KEY=VALUE, separated by commas; numbers as C has them, the hypercall page by its number from VIRT_BASE on.
  private mutating func addString(_ text: String) {
    isFromString = true
    for part in text.split(separator: ",") {
      let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
      let value = pair.count > 1 ? pair[1] : ""
      switch pair.first {
      case "LOADER": loader = value
      case "GUEST_OS": guestOS = value
      case "XEN_VER": xenVersion = value
      case "PAE": isWithoutPAE = value == "no"
      case "BSD_SYMTAB": wantsSymbols = true
      case "FEATURES": features = value
      case "VIRT_BASE": virtualBase = Self.number(value)
      case "VIRT_ENTRY": entry = Self.number(value)
      case "ELF_PADDR_OFFSET": physicalOffset = Self.number(value)
      case "HYPERCALL_PAGE": hypercallPage = Self.number(value).map { $0 << 12 }
      default: break
      }
    }
    if let page = hypercallPage, let virtualBase { hypercallPage = page &+ virtualBase }
    // What such a kernel says nothing of: its physical addresses are its virtual ones.
    if physicalOffset == nil { physicalOffset = virtualBase }
  }

  private static func number(_ text: String) -> UInt64? {
    let lowered = text.lowercased()
    if lowered.hasPrefix("0x") { return UInt64(lowered.dropFirst(2), radix: 16) }
    return lowered.hasPrefix("0") && lowered.count > 1 ? UInt64(lowered, radix: 8) : UInt64(lowered)
  }

  /// XENFEAT_… by name (libelf's `elf_xen_feature_names`), and those that a PV domain has or does without.
  private static let knownFeatures: Set<String> = [
    "writable_page_tables", "writable_descriptor_tables", "auto_translated_physmap", "supervisor_mode_kernel",
    "pae_pgdir_above_4gb", "hvm_callback_vector", "dom0",
  ]
  private static let impossibleFeatures: Set<String> = ["auto_translated_physmap", "supervisor_mode_kernel"]

  /// What the kernel can't do without and is not to be had, if anything.
  var missingFeature: String? {
    for name in features.split(separator: "|") where name.hasPrefix("!") {
      let name = String(name.dropFirst())
      if !Self.knownFeatures.contains(name) || Self.impossibleFeatures.contains(name) { return name }
    }
    return nil
  }
}

extension BootRequest {
  /// Whether the image is a kernel for Xen's paravirtual interface, said or detected.
  public var isParavirtualKernel: Bool {
    guard let kind else { return (try? ImageKind.detect(image)) == .xen }
    return kind == .xen
  }

  /// Why a machine that is no paravirtual domain can't begin with the image, if that is what it is for.
  public var obstacleOutsideDomain: BootFailure? {
    guard isParavirtualKernel else { return nil }
    let isLinux = (try? linuxIdentity()).flatMap { $0 } != nil
    return BootFailure(image.name, ImageAppearance.domainKernel(isLinux: isLinux))
  }
}
