// Mutated inputs for what reads a guest's bytes, for as long as one likes. A trap ends the process: the input is in the file then.
//
//     trivisor-fuzz SECONDS FILE [SEED]
//
// Not guided by coverage: the corpus is every image that the program carries, and what is changed is a few bytes of its headers, at
// their edges, or its length.

import Glibc
import TrivisorBoot
import TrivisorEmbeddedGuests
import TrivisorInstructionSet
import TrivisorVMM

@main
struct FuzzRunner {
  /// Values that break arithmetic.
  private static let edges: [UInt64] = [
    0, 1, 0x7f, 0x80, 0xff, 0xfff, 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_f000, .max,
  ]

  private var generator: Generator
  private let file: String
  private let corpus: [[UInt8]]
  private var inputs = 0
  private var loaded = 0

  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count >= 3, let seconds = UInt64(arguments[1]) else {
      print("use: trivisor-fuzz SECONDS FILE [SEED]")
      exit(64)
    }
    let seed = arguments.count > 3 ? UInt64(arguments[3]) ?? 1 : monotonicNanoseconds()
    var runner = FuzzRunner(seed: seed, file: arguments[2])
    print("seed \(seed)")
    let end = monotonicNanoseconds() + seconds * 1_000_000_000
    while monotonicNanoseconds() < end { runner.round() }
    print("\(runner.inputs) inputs, of which \(runner.loaded) images loaded; no finding")
    unlink(arguments[2])
  }

  private init(seed: UInt64, file: String) {
    generator = Generator(state: seed)
    self.file = file
    corpus = (EmbeddedGuest.all + EmbeddedGuest.paravirtualOnly).flatMap { guest in
      [Array(guest.bytes)] + (guest.paravirtualBytes.map { [Array($0)] } ?? [])
    }
  }

  private mutating func round() {
    let base = corpus[Int(generator.below(UInt64(corpus.count)))]
    load(mutated(base))
    for _ in 0..<200 { decode() }
  }

  private mutating func mutated(_ base: [UInt8]) -> [UInt8] {
    var bytes = base
    if generator.below(8) == 0 { bytes.removeLast(Int(generator.below(UInt64(bytes.count)))) }
    guard !bytes.isEmpty else { return [0] }
    for _ in 0..<(1 + generator.below(6)) {
      // Headers mostly; program headers and notes are near the beginning, too.
      let limit = generator.below(4) == 0 ? bytes.count : min(bytes.count, 0x400)
      let offset = Int(generator.below(UInt64(limit)))
      if generator.below(2) == 0 {
        bytes[offset] = UInt8(truncatingIfNeeded: generator.next())
      } else {
        let value = Self.edges[Int(generator.below(UInt64(Self.edges.count)))]
        for index in 0..<(1 << Int(generator.below(4))) where offset + index < bytes.count {
          bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
        }
      }
    }
    return bytes
  }

  private mutating func load(_ bytes: [UInt8]) {
    inputs += 1
    keep(bytes)
    bytes.withUnsafeBytes { raw in
      guard let memory = try? GuestMemory(size: 8 << 20), let image = try? BootImage(name: "fuzzed", bytes: raw) else {
        return
      }
      var request = BootRequest(image: image)
      request.commandLine = "a b"
      if (try? request.load(into: memory)) != nil { loaded += 1 }
    }
  }

  private mutating func decode() {
    inputs += 1
    let bytes = (0..<15).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    let mode = [CPUMode.bits16, .bits32, .bits64][Int(generator.below(3))]
    bytes.withUnsafeBytes { _ = Decoder(mode: mode).decode($0) }
  }

  /// What is being tried, for whoever finds the process dead.
  private func keep(_ bytes: [UInt8]) {
    let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { return }
    _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
  }

  /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
  private struct Generator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var mixed = state
      mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
      return mixed ^ (mixed >> 31)
    }

    mutating func below(_ limit: UInt64) -> UInt64 { limit == 0 ? 0 : next() % limit }
  }
}
