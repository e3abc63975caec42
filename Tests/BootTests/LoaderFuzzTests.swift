import TrivisorBoot
import Testing
import TrivisorVMM

// Whatever an image's bytes are, loading it gives a guest or a `BootFailure`. A trap would end the test process, so
// that these tests finish is most of what they show. All are deterministic: the generator's seed is the argument.

@Suite("Loaders under mutated images")
struct LoaderFuzzTests {
  /// Valid images, one of each shape.
  static let seeds: [(name: String, bytes: [UInt8])] = {
    let code = (0..<96).map { UInt8(truncatingIfNeeded: $0 * 5) }
    var bootSector = ImageBuilder(bytes: code)
    bootSector.put([0x55, 0xaa], at: 510)
    let header = ImageBuilder.multibootHeader(flags: 3)
    return [
      ("boot sector", bootSector.bytes),
      (
        "ELF64",
        ImageBuilder.elf64(
          entry: 0xffff_8000_0010_0000,
          [
            .init(physical: 0x10_0000, virtual: 0xffff_8000_0010_0000, contents: code, memorySize: 0x5000),
            .init(physical: 0x20_0000, contents: code),
          ])
      ),
      ("ELF32", ImageBuilder.elf32(entry: 0x10_0000, [.init(physical: 0x10_0000, contents: code, memorySize: 0x5000)])),
      ("multiboot", ImageBuilder.multiboot(load: 0x10_0000, loadEnd: 0x10_0180, bssEnd: 0x10_5000)),
      ("multiboot ELF32", ImageBuilder.elf32(entry: 0x10_000c, [.init(physical: 0x10_0000, contents: header + code)])),
      ("multiboot ELF64", ImageBuilder.elf64(entry: 0x10_000c, [.init(physical: 0x10_0000, contents: header + code)])),
    ]
  }()

  /// Values that break arithmetic.
  static let edges: [UInt64] = [
    0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x7c00, 0x9fc00, 0x10_0000, 0x3f_ffff, 0x40_0000, 0x40_0001,
    0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, 0xffff_f000, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000, 0xffff_ffff_ffff_f000, .max,
  ]

  private let memory: GuestMemory

  init() throws { memory = try GuestMemory(size: 4 << 20) }

  /// Loads, and checks what must hold of any guest: its first instruction lies in its memory.
  @discardableResult
  private func attempt(_ bytes: [UInt8], kind: ImageKind? = nil) throws -> Bool {
    if bytes.isEmpty { return false }
    do {
      let guest = try load(bytes, kind: kind, into: memory)
      let linear = guest.system.cs.base &+ guest.general.rip
      #expect(memory.host(GuestPhysicalAddress(linear), count: 1) != nil)
      return true
    } catch let failure as BootFailure {
      #expect(!failure.description.isEmpty)
      return false
    }
  }

  @Test("the seeds themselves load")
  func seedsLoad() throws {
    for seed in Self.seeds { #expect(try attempt(seed.bytes), "\(seed.name)") }
  }

  @Test("cut off at every byte", arguments: seeds.indices)
  func truncated(seed: Int) throws {
    let bytes = Self.seeds[seed].bytes
    for count in 0..<bytes.count { try attempt(Array(bytes.prefix(count))) }
  }

  @Test("every field of the headers at its edges, one and two at a time", arguments: seeds.indices)
  func edgeValues(seed: Int) throws {
    let original = Self.seeds[seed].bytes
    var generator = Generator(seed: UInt64(seed) + 1)
    for offset in stride(from: 0, to: min(original.count, 0x240), by: 2) {
      for value in Self.edges {
        var image = ImageBuilder(bytes: original)
        switch generator.next() % 3 {
        case 0: image.put(UInt16(truncatingIfNeeded: value), at: offset)
        case 1: image.put(UInt32(truncatingIfNeeded: value), at: offset)
        default: image.put(value, at: offset)
        }
        if generator.next() % 2 == 0 {
          let second = Int(generator.next() % 0x100)
          image.put(Self.edges[Int(generator.next() % UInt64(Self.edges.count))], at: second)
        }
        try attempt(image.bytes)
      }
    }
  }

  @Test("random bytes over valid images and over nothing", arguments: 0..<8)
  func random(seed: Int) throws {
    var generator = Generator(seed: UInt64(seed) + 100)
    for _ in 0..<500 {
      var bytes = Self.seeds[Int(generator.next() % UInt64(Self.seeds.count))].bytes
      for _ in 0..<(1 + generator.next() % 12) {
        bytes[Int(generator.next() % UInt64(min(bytes.count, 160)))] = UInt8(truncatingIfNeeded: generator.next())
      }
      try attempt(bytes)
      let noise = (0..<(1 + generator.next() % 300)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      let kinds = ImageKind.allCases
      try attempt(noise, kind: kinds[Int(generator.next() % UInt64(kinds.count))])
    }
  }

  @Test("every address and entry point for flat images", arguments: [ImageKind.flat16, .flat32, .flat64])
  func flatAddresses(kind: ImageKind) throws {
    for address in Self.edges {
      for entry in Self.edges {
        _ = try? load([0x90, 0xf4], kind: kind, into: memory) {
          $0.loadAddress = address
          $0.entry = entry
        }
      }
    }
  }
}

/// A small deterministic generator (SplitMix64).
struct Generator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }
}
