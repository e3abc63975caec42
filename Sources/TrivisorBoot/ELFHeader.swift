import TrivisorVMM

/// An ELF file's header and program headers (System V ABI, chapters 4 and 5), of either class.
struct ELFHeader {
  /// EI_CLASS.
  enum Class: UInt8 {
    case elf32 = 1
    case elf64 = 2
  }

  /// One entry of the program header table.
  struct Segment {
    /// Its number in the table, for messages.
    let index: Int
    let type: UInt32
    let fileOffset: UInt64
    let virtualAddress: UInt64
    let physicalAddress: UInt64
    let fileSize: UInt64
    let memorySize: UInt64
    let alignment: UInt64

    static let load: UInt32 = 1
    static let note: UInt32 = 4

    var name: String { "segment \(index)" }
  }

  static let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]
  /// What is enough for the header of either class.
  static let maximumSize = 64
  /// More program headers than any kernel has; a bound for the work that an image can make.
  static let maximumSegmentCount = 512

  let elfClass: Class
  let entry: UInt64
  let segmentTableOffset: UInt64
  let segmentCount: Int
  let segmentEntrySize: Int

  /// - Parameter bytes: the file's first bytes, `maximumSize` of them where the file has as many.
  /// - Throws: `BootFailure` unless it is an executable for a PC.
  init(_ bytes: ImageBytes) throws(BootFailure) {
    guard bytes.holds(Self.magic, at: 0) else {
      throw bytes.failure(.notOfKind(.elf, problem: "it does not begin with 7f 45 4c 46"))
    }
    guard let elfClass = Class(rawValue: try bytes.read(at: 4)) else {
      throw bytes.malformed("says a class that is neither 32- nor 64-bit")
    }
    self.elfClass = elfClass
    guard try bytes.read(UInt8.self, at: 5) == 1 else {
      throw bytes.failure(.unsupported("is an ELF file for a big-endian processor", remedy: "build it for x86"))
    }
    guard try bytes.read(UInt8.self, at: 6) == 1, try bytes.read(UInt32.self, at: 20) == 1 else {
      throw bytes.malformed("says a version of ELF that is not 1")
    }
    try Self.checkMachine(bytes, elfClass)
    try Self.checkType(bytes)
    let expectedEntrySize: Int
    switch elfClass {
    case .elf32:
      entry = UInt64(try bytes.read(UInt32.self, at: 24))
      segmentTableOffset = UInt64(try bytes.read(UInt32.self, at: 28))
      segmentEntrySize = Int(try bytes.read(UInt16.self, at: 42))
      segmentCount = Int(try bytes.read(UInt16.self, at: 44))
      expectedEntrySize = 32
    case .elf64:
      entry = try bytes.read(at: 24)
      segmentTableOffset = try bytes.read(at: 32)
      segmentEntrySize = Int(try bytes.read(UInt16.self, at: 54))
      segmentCount = Int(try bytes.read(UInt16.self, at: 56))
      expectedEntrySize = 56
    }
    guard segmentCount > 0 else { throw bytes.malformed("names no segments, so there is nothing to load") }
    guard segmentEntrySize == expectedEntrySize else {
      throw bytes.malformed("says \(segmentEntrySize) bytes a program header instead of \(expectedEntrySize)")
    }
    guard segmentCount <= Self.maximumSegmentCount else {
      throw bytes.failure(
        .unsupported(
          "has \(segmentCount) program headers and \(Self.maximumSegmentCount) are the most that are taken",
          remedy: "link it with fewer"))
    }
  }

  private static func checkMachine(_ bytes: ImageBytes, _ elfClass: Class) throws(BootFailure) {
    let i386: UInt16 = 3
    let x86_64: UInt16 = 62
    let machine: UInt16 = try bytes.read(at: 18)
    switch (machine, elfClass) {
    case (i386, .elf32), (x86_64, .elf64): return
    case (x86_64, .elf32):
      throw bytes.failure(
        .unsupported("is an x32 program (x86-64 in a 32-bit file)", remedy: "build it for i386 or x86-64"))
    default:
      let names: [UInt16: String] = [
        2: "SPARC", 8: "MIPS", 20: "PowerPC", 21: "64-bit PowerPC", 22: "S/390", 40: "ARM", 50: "Itanium",
        183: "AArch64", 243: "RISC-V", 258: "LoongArch",
      ]
      throw bytes.failure(
        .unsupported("is built for \(names[machine] ?? "machine \(machine)")", remedy: "give one for i386 or x86-64"))
    }
  }

  private static func checkType(_ bytes: ImageBytes) throws(BootFailure) {
    let type: UInt16 = try bytes.read(at: 16)
    switch type {
    case 2: return
    case 1: throw bytes.failure(.unsupported("is an object file", remedy: "link it to an executable first"))
    case 3:
      throw bytes.failure(
        .unsupported(
          "is position-independent (ET_DYN): a shared library, or an executable that a loader has to relocate",
          remedy: "link it with -no-pie and -static"))
    case 4: throw bytes.failure(.unsupported("is a core dump", remedy: "give the executable"))
    default: throw bytes.malformed("says the unknown type \(type)")
    }
  }

  /// Where the program headers lie: their offset and size in bytes.
  var segmentTableSize: Int { segmentCount * segmentEntrySize }

  /// The program headers.
  /// - Parameter table: `segmentTableSize` bytes from `segmentTableOffset`.
  func segments(_ table: ImageBytes) throws(BootFailure) -> [Segment] {
    var segments: [Segment] = []
    segments.reserveCapacity(segmentCount)
    for index in 0..<segmentCount {
      let base = index * segmentEntrySize
      switch elfClass {
      case .elf32:
        func field(_ position: Int) throws(BootFailure) -> UInt64 {
          UInt64(try table.read(UInt32.self, at: base + position))
        }
        segments.append(
          Segment(
            index: index, type: try table.read(at: base), fileOffset: try field(4), virtualAddress: try field(8),
            physicalAddress: try field(12), fileSize: try field(16), memorySize: try field(20),
            alignment: try field(28)))
      case .elf64:
        func field(_ position: Int) throws(BootFailure) -> UInt64 { try table.read(at: base + position) }
        segments.append(
          Segment(
            index: index, type: try table.read(at: base), fileOffset: try field(8), virtualAddress: try field(16),
            physicalAddress: try field(24), fileSize: try field(32), memorySize: try field(40),
            alignment: try field(48)))
      }
    }
    return segments
  }
}
