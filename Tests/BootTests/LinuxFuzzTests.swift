import Testing
import TrivisorVMM

@testable import TrivisorBoot

// As `LoaderFuzzTests`, for kernels: whatever the bytes are, loading ends in a guest or a `BootFailure`.

@Suite("Linux loaders under mutated images")
struct LinuxFuzzTests {
  private let memory: GuestMemory

  init() throws { memory = try GuestMemory(size: 32 << 20) }

  @discardableResult
  private func attempt(_ bytes: [UInt8], _ change: (inout BootRequest) -> Void = { _ in }) throws -> Bool {
    if bytes.isEmpty { return false }
    do {
      let guest = try load(bytes, into: memory, change)
      #expect(memory.host(GuestPhysicalAddress(guest.general.rip), count: 1) != nil)
      return true
    } catch is BootFailure {
      return false
    }
  }

  private static let small = LinuxBuilder.vmlinux(textSize: 3000)

  @Test("cut off at every byte of the headers, and all over the rest", arguments: CompressionFormat.allCases)
  func truncated(format: CompressionFormat) throws {
    let image = LinuxBuilder.bzImage(try LinuxBuilder.pack(Self.small, format))
    #expect(try attempt(image))
    // Without its last 15 bytes it is whole, because the size is rounded up to 16.
    for count in stride(from: image.count - 16, to: 0, by: -1) where count < 0x6c0 || count % 61 == 0 {
      #expect(try !attempt(Array(image.prefix(count))) { $0.kind = .linux }, "\(count)")
    }
  }

  @Test("the packed kernel cut off, with its headers intact", arguments: CompressionFormat.allCases)
  func truncatedPayload(format: CompressionFormat) throws {
    let payload = try LinuxBuilder.pack(Self.small, format)
    for count in stride(from: 9, to: payload.count - 5, by: 97) {
      let cut = payload.prefix(count) + payload.suffix(4)
      #expect(try !attempt(LinuxBuilder.bzImage(Array(cut))), "\(count)")
    }
  }

  @Test("compressed garbage", arguments: CompressionFormat.allCases)
  func garbage(format: CompressionFormat) throws {
    let payload = try LinuxBuilder.pack(Self.small, format)
    var generator = Generator(seed: 7)
    for _ in 0..<150 {
      var bytes = payload
      for _ in 0..<(1 + generator.next() % 4) {
        bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: generator.next())
      }
      try attempt(LinuxBuilder.bzImage(bytes))
      let noise = payload.prefix(16) + (0..<500).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      try attempt(LinuxBuilder.bzImage(Array(noise)))
    }
  }

  @Test("every field of the setup header at its edges", arguments: [LinuxEntry.automatic, .bzImage])
  func setupHeader(entry: LinuxEntry) throws {
    let image = LinuxBuilder.bzImage(try LinuxBuilder.pack(Self.small, .lz4))
    var generator = Generator(seed: 3)
    try withImage([1, 2, 3]) { ramdisk in
      for offset in 0x1f1..<0x264 {
        for value in LoaderFuzzTests.edges {
          var builder = ImageBuilder(bytes: image)
          switch generator.next() % 3 {
          case 0: builder.put(UInt8(truncatingIfNeeded: value), at: offset)
          case 1: builder.put(UInt32(truncatingIfNeeded: value), at: offset)
          default: builder.put(value, at: offset)
          }
          try attempt(builder.bytes) {
            $0.linuxEntry = entry
            $0.initialRamdisks = [ramdisk]
          }
        }
      }
    }
  }

  @Test("every field of the unpacked kernel's headers and notes at its edges")
  func unpackedHeaders() throws {
    let notes = 0x200 + 3000
    for offset in Array(stride(from: 0, to: 64 + 3 * 56, by: 2)) + Array(stride(from: notes, to: notes + 48, by: 2)) {
      for value in LoaderFuzzTests.edges {
        var builder = ImageBuilder(bytes: Self.small)
        builder.put(value, at: offset)
        try attempt(builder.bytes)
        if value % 2 == 0 { try attempt(LinuxBuilder.bzImage(try LinuxBuilder.pack(builder.bytes, .lz4))) }
      }
    }
  }

  @Test("random notes")
  func notes() {
    var generator = Generator(seed: 11)
    for _ in 0..<2000 {
      var bytes = LinuxBuilder.pvhNotes()
      for _ in 0..<(1 + generator.next() % 6) {
        bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: generator.next())
      }
      var notes = ELFNotes()
      notes.add(bytes, alignment: generator.next() % 2 == 0 ? 4 : 8)
    }
  }
}
