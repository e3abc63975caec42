// A packed kernel is an ELF file inside a bzImage. While it is unpacked its bytes pass by once, in order, and each goes
// straight to where its segment wants it:
//
//     stream   ELF header, program headers │ gap │ segment 0 … │ gap │ segment 1 … │ relocations
//                        │                          │                   │
//                  kept and parsed            guest memory        guest memory
//
// Only the beginning is kept, until the segments are known and their memory is taken.

import TrivisorVMM

/// The ELF file in a packed kernel, as it arrives.
struct UnpackedKernel: DecompressionSink {
  /// Enough for the program headers of any kernel.
  private static let headSize: UInt64 = 64 << 10

  private(set) var layout: GuestLayout
  private(set) var header: ELFHeader?
  private(set) var segments: [ELFHeader.Segment] = []
  /// What was unpacked begins otherwise than an ELF file.
  private(set) var isNoELF = false

  /// How many bytes the stream announces.
  private let size: UInt64
  /// How many have come, and how many of them were looked at.
  private var received: UInt64 = 0
  private var position: UInt64 = 0
  private var head: [UInt8] = []
  /// What is loaded, by its place in the file.
  private var targets: [ELFHeader.Segment] = []

  private init(size: UInt64, layout: GuestLayout) {
    self.size = size
    self.layout = layout
  }

  /// What became of a packed kernel.
  enum Result {
    /// All segments are in guest memory, their memory taken.
    case loaded(UnpackedKernel)
    /// It is not an ELF file, so it can only be entered as it is packed.
    case noELF
  }

  /// Unpacks a stream into guest memory.
  /// - Parameter size: how many bytes it announces; more is an error, and so is less.
  static func unpack(_ stream: PackedStream, size: UInt64, layout: GuestLayout) throws(BootFailure) -> Result {
    guard size <= layout.memory.size else {
      throw BootFailure(
        layout.image, .noRoom(part: "the unpacked kernel", size: size, below: layout.memory.regions.last?.end ?? 0))
    }
    var kernel = UnpackedKernel(size: size, layout: layout)
    do throws(BootFailure) {
      try stream.unpack(into: &kernel)
    } catch {
      if kernel.isNoELF { return .noELF }
      throw error
    }
    guard kernel.received == size, kernel.header != nil else {
      throw stream.corrupt("unpacks to \(kernel.received) bytes and announces \(size)")
    }
    for segment in kernel.loadSegments {
      try layout.clear(
        segment.physicalAddress &+ segment.fileSize, size: segment.memorySize - segment.fileSize, as: segment.name)
    }
    return .loaded(kernel)
  }

  /// What was loaded.
  var loadSegments: [ELFHeader.Segment] {
    segments.filter { $0.type == ELFHeader.Segment.load && $0.memorySize > 0 }
  }

  mutating func write(_ bytes: UnsafeRawBufferPointer) throws(BootFailure) {
    guard UInt64(bytes.count) <= size - received else {
      throw BootFailure(
        layout.image,
        .malformed(part: "the packed kernel", problem: "unpacks to more than the \(size) bytes that it announces"))
    }
    received += UInt64(bytes.count)
    if header != nil {
      try distribute(bytes)
      return
    }
    let missing = min(Self.headSize, size) - UInt64(head.count)
    let (first, rest) = (bytes.prefix(Int(missing)), bytes.dropFirst(Int(missing)))
    head.append(contentsOf: first)
    guard UInt64(head.count) == min(Self.headSize, size) else { return }
    try takeMemory()
    let kept = UnsafeMutableRawBufferPointer.allocate(byteCount: head.count, alignment: 1)
    defer { kept.deallocate() }
    kept.copyBytes(from: head)
    head = []
    try distribute(UnsafeRawBufferPointer(kept))
    try distribute(UnsafeRawBufferPointer(rebasing: rest))
  }

  /// Stores the next bytes of the file wherever segments want them.
  private mutating func distribute(_ bytes: UnsafeRawBufferPointer) throws(BootFailure) {
    let end = position + UInt64(bytes.count)
    for segment in targets {
      let from = max(segment.fileOffset, position)
      let to = min(segment.fileOffset + segment.fileSize, end)
      guard from < to else { continue }
      let part = UnsafeRawBufferPointer(rebasing: bytes[Int(from - position)..<Int(to - position)])
      try layout.memory.store(
        part, at: segment.physicalAddress &+ (from - segment.fileOffset), as: segment.name, of: layout.image)
    }
    position = end
  }

  /// Parses what was kept and takes the segments' memory.
  private mutating func takeMemory() throws(BootFailure) {
    let bytes = ImageBytes(
      image: layout.image, imageSize: size, part: "the unpacked kernel's ELF header", offset: 0, bytes: head)
    guard bytes.holds(ELFHeader.magic, at: 0) else {
      isNoELF = true
      throw bytes.malformed("is missing")
    }
    let header = try ELFHeader(bytes)
    guard let tableOffset = Int(exactly: header.segmentTableOffset),
      let table = bytes.slice(at: tableOffset, count: header.segmentTableSize)
    else { throw bytes.malformed("puts the program headers behind its first \(head.count) bytes") }
    segments = try header.segments(
      ImageBytes(
        image: layout.image, imageSize: size, part: "the unpacked kernel's program header table",
        offset: header.segmentTableOffset, bytes: Array(table)))
    for segment in loadSegments {
      guard segment.fileOffset <= size, segment.fileSize <= size - segment.fileOffset else {
        throw BootFailure(
          layout.image,
          .truncated(part: segment.name, offset: segment.fileOffset, size: segment.fileSize, imageSize: size))
      }
    }
    try ELFLoader.claim(loadSegments, &layout)
    targets = loadSegments.filter { $0.fileSize > 0 }
    self.header = header
  }
}
