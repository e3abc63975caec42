import VMM

/// What a Xen PV kernel says of itself in its ELF notes (Xen's public header elfnote.h).
///
/// Real kernels have malformed ones (GRUB's last note is longer than its segment), so a note that is cut off is taken as
/// far as it goes, and one that makes no sense ends the list.
struct XenNotes {
  private static let owner = Array("Xen\0".utf8)
  private static let entryType: UInt32 = 1
  private static let hypercallPageType: UInt32 = 2
  private static let virtualBaseType: UInt32 = 3
  private static let physicalOffsetType: UInt32 = 4
  private static let loaderType: UInt32 = 8
  /// More than any kernel has.
  private static let maximumSize: UInt64 = 1 << 16

  private(set) var entry: UInt64?
  private(set) var hypercallPage: UInt64?
  private(set) var virtualBase: UInt64?
  private(set) var physicalOffset: UInt64?
  /// Whether a loader for PV domains is named: a kernel with only a PVH entry is none.
  private(set) var isParavirtual = false

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
    return notes.isParavirtual ? notes : nil
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
      let value =
        switch (elfClass, size) {
        case (.elf64, 8...): bytes.value(UInt64.self, at: description)
        default: size >= 4 ? bytes.value(UInt32.self, at: description).map { UInt64($0) } : nil
        }
      switch type {
      case Self.entryType: entry = value
      case Self.hypercallPageType: hypercallPage = value
      case Self.virtualBaseType: virtualBase = value
      case Self.physicalOffsetType: physicalOffset = value
      case Self.loaderType: isParavirtual = true
      default: break
      }
    }
  }
}

extension BootRequest {
  /// Whether the image is a kernel for Xen's paravirtual interface, said or detected.
  public var isParavirtualKernel: Bool {
    guard let kind else { return (try? ImageKind.detect(image)) == .xen }
    return kind == .xen
  }
}
