import TrivisorBoot
import TrivisorVMM

/// Makes images byte by byte.
struct ImageBuilder {
  var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    grow(to: offset + MemoryLayout<Value>.size)
    withUnsafeBytes(of: value.littleEndian) { source in
      for (index, byte) in source.enumerated() { bytes[offset + index] = byte }
    }
  }

  mutating func put(_ values: [UInt8], at offset: Int) {
    grow(to: offset + values.count)
    bytes.replaceSubrange(offset..<(offset + values.count), with: values)
  }

  mutating func grow(to size: Int) {
    if bytes.count < size { bytes += [UInt8](repeating: 0, count: size - bytes.count) }
  }

  struct Segment {
    var physical: UInt64
    var virtual: UInt64?
    var contents: [UInt8]
    var memorySize: UInt64?
    var type: UInt32 = 1
  }

  /// An ELF executable with its segments' contents from offset 0x200 on, each at the next multiple of 16.
  static func elf64(entry: UInt64, _ segments: [Segment]) -> [UInt8] {
    var image = ImageBuilder()
    image.put([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], at: 0)
    image.put(UInt16(2), at: 16)
    image.put(UInt16(62), at: 18)
    image.put(UInt32(1), at: 20)
    image.put(entry, at: 24)
    image.put(UInt64(64), at: 32)
    image.put(UInt16(64), at: 52)
    image.put(UInt16(56), at: 54)
    image.put(UInt16(segments.count), at: 56)
    var offset = 0x200
    for (index, segment) in segments.enumerated() {
      let header = 64 + index * 56
      image.put(segment.type, at: header)
      image.put(UInt32(7), at: header + 4)
      image.put(UInt64(offset), at: header + 8)
      image.put(segment.virtual ?? segment.physical, at: header + 16)
      image.put(segment.physical, at: header + 24)
      image.put(UInt64(segment.contents.count), at: header + 32)
      image.put(segment.memorySize ?? UInt64(segment.contents.count), at: header + 40)
      image.put(UInt64(16), at: header + 48)
      image.put(segment.contents, at: offset)
      offset = (offset + segment.contents.count + 15) / 16 * 16
    }
    return image.bytes
  }

  /// The same for i386.
  static func elf32(entry: UInt32, _ segments: [Segment]) -> [UInt8] {
    var image = ImageBuilder()
    image.put([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1], at: 0)
    image.put(UInt16(2), at: 16)
    image.put(UInt16(3), at: 18)
    image.put(UInt32(1), at: 20)
    image.put(entry, at: 24)
    image.put(UInt32(52), at: 28)
    image.put(UInt16(52), at: 40)
    image.put(UInt16(32), at: 42)
    image.put(UInt16(segments.count), at: 44)
    var offset = 0x200
    for (index, segment) in segments.enumerated() {
      let header = 52 + index * 32
      image.put(segment.type, at: header)
      image.put(UInt32(offset), at: header + 4)
      image.put(UInt32(segment.virtual ?? segment.physical), at: header + 8)
      image.put(UInt32(segment.physical), at: header + 12)
      image.put(UInt32(segment.contents.count), at: header + 16)
      image.put(UInt32(segment.memorySize ?? UInt64(segment.contents.count)), at: header + 20)
      image.put(UInt32(7), at: header + 24)
      image.put(UInt32(16), at: header + 28)
      image.put(segment.contents, at: offset)
      offset = (offset + segment.contents.count + 15) / 16 * 16
    }
    return image.bytes
  }

  /// A multiboot header of three words.
  static func multibootHeader(flags: UInt32) -> [UInt8] {
    var image = ImageBuilder()
    image.put(UInt32(0x1bad_b002), at: 0)
    image.put(flags, at: 4)
    image.put(0 &- (0x1bad_b002 &+ flags), at: 8)
    return image.bytes
  }

  /// A kernel that its multiboot header's addresses describe: header at offset 64, all of the file at `load`.
  static func multiboot(
    load: UInt32, entry: UInt32? = nil, loadEnd: UInt32 = 0, bssEnd: UInt32 = 0, size: Int = 0x200
  ) -> [UInt8] {
    var image = ImageBuilder()
    image.grow(to: size)
    image.put(multibootHeader(flags: 1 << 16), at: 64)
    for (index, value) in [load &+ 64, load, loadEnd, bssEnd, entry ?? load].enumerated() {
      image.put(value, at: 76 + index * 4)
    }
    return image.bytes
  }
}

/// Calls `body` with an image of these bytes, which lives no longer than the call.
func withImage<Result>(
  _ bytes: [UInt8], name: String = "test.img", _ body: (BootImage) throws -> Result
) throws -> Result {
  try bytes.withUnsafeBytes { try body(try BootImage(name: name, bytes: $0)) }
}

extension LoadedGuest {
  /// Of a guest for a machine; zero of others.
  var general: GeneralRegisters { start.general }
  var system: SystemRegisters { start.system }

  private var start: ProcessorStart {
    guard case .processor(let start) = handover else {
      return ProcessorStart(general: GeneralRegisters(), system: SystemRegisters())
    }
    return start
  }
}

/// Loads `bytes` as an image.
func load(
  _ bytes: [UInt8], kind: ImageKind? = nil, into memory: GuestMemory, _ change: (inout BootRequest) -> Void = { _ in }
) throws -> LoadedGuest {
  try withImage(bytes) { image in
    var request = BootRequest(image: image, kind: kind)
    change(&request)
    return try request.load(into: memory)
  }
}

/// The failure that loading `bytes` ends in.
func failure(
  _ bytes: [UInt8], kind: ImageKind? = nil, memory: UInt64 = 16 << 20, _ change: (inout BootRequest) -> Void = { _ in }
) throws -> BootFailure? {
  let memory = try GuestMemory(size: memory)
  do {
    _ = try load(bytes, kind: kind, into: memory, change)
    return nil
  } catch let failure as BootFailure {
    return failure
  }
}

extension GuestMemory {
  func bytes(_ address: UInt64, _ count: Int) throws -> [UInt8] {
    try bytes(at: GuestPhysicalAddress(address), count: count)
  }

  func word(_ address: UInt64) throws -> UInt32 { try read(UInt32.self, at: GuestPhysicalAddress(address)) }

  /// The C string at an address.
  func text(_ address: UInt64) throws -> String {
    var bytes: [UInt8] = []
    while case let byte = try read(UInt8.self, at: GuestPhysicalAddress(address + UInt64(bytes.count))), byte != 0 {
      bytes.append(byte)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
