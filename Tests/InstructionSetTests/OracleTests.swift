import TrivisorCZydis
import Foundation
import TrivisorInstructionSet
import Testing

/// A small generator with a fixed sequence (SplitMix64).
struct FixedSequence: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for offset in stride(from: 0, to: buffer.count & ~7, by: 8) {
      buffer.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
    }
  }
}

/// A debug build does a fraction of the work, in about the same time.
enum Effort {
  #if DEBUG
  static let isFull = false
  #else
  static let isFull = true
  #endif
}

@Suite("Compared with Zydis")
struct OracleTests {
  @Test("the executable sections of this machine's programs and libraries")
  func realCode() {
    var comparison = Comparison(mode: .bits64)
    for executable in Executable.ofThisMachine() {
      for section in executable.sections {
        section.withUnsafeBytes { bytes in
          let limit = Effort.isFull ? bytes.count : min(bytes.count, 20_000)
          var offset = 0
          while offset < limit {
            offset += comparison.compare(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
          }
        }
      }
    }
    comparison.conclude("real code")
  }

  @Test("random bytes", arguments: CPUMode.allCases)
  func randomBytes(mode: CPUMode) {
    var comparison = Comparison(mode: mode)
    var random = FixedSequence(state: 2)
    let count = Effort.isFull ? 3_000_000 : 30_000
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
      for _ in 0..<count {
        random.fill(buffer)
        comparison.compare(UnsafeRawBufferPointer(buffer))
      }
    }
    comparison.conclude("random bytes")
  }

  @Test("prefixes × opcodes × random rest", arguments: CPUMode.allCases)
  func structured(mode: CPUMode) {
    var comparison = Comparison(mode: mode)
    var random = FixedSequence(state: 1)
    let count = Effort.isFull ? 2_000 : 16
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
      for map in 0..<8 {
        for opcode in UInt8.min...UInt8.max {
          for _ in 0..<count {
            random.fill(buffer)
            Self.begin(buffer, map, opcode, mode, random.next())
            comparison.compare(UnsafeRawBufferPointer(buffer))
          }
        }
      }
    }
    comparison.conclude("structured")
  }

  /// Writes a plausible beginning: up to two legacy prefixes and a REX, then the opcode in its map. Maps 0 to 3 are the
  /// legacy ones, 4 to 6 VEX, 7 EVEX.
  private static func begin(
    _ buffer: UnsafeMutableRawBufferPointer, _ map: Int, _ opcode: UInt8, _ mode: CPUMode, _ choice: UInt64
  ) {
    var bytes: [UInt8] = []
    func bits(_ from: Int, _ count: Int) -> Int { Int(choice >> UInt64(from) & (1 << UInt64(count) - 1)) }
    if map < 4 || bits(50, 4) == 0 {
      if bits(0, 1) == 1 { bytes.append([0x66, 0xf2, 0xf3, 0x67][bits(1, 2)]) }
      if bits(3, 2) == 3 { bytes.append([0x66, 0xf2, 0xf3, 0x67, 0x64, 0x2e, 0xf0, 0x36][bits(5, 3)]) }
      if mode == .bits64, bits(8, 1) == 1 { bytes.append(0x40 | UInt8(bits(9, 4))) }
    }
    let high: UInt8 = mode == .bits64 ? 0 : 0xc0
    // Half of the vector prefixes have an unused vvvv, which many opcodes insist on.
    let vvvv: UInt8 = bits(40, 1) == 1 ? 0x78 : 0
    switch map {
    case 0: break
    case 1: bytes.append(0x0f)
    case 2, 3: bytes += [0x0f, map == 2 ? 0x38 : 0x3a]
    case 4 where bits(20, 2) == 0: bytes += [0xc5, UInt8(bits(24, 8)) | high | vvvv]
    case 4, 5, 6: bytes += [0xc4, UInt8(bits(24, 8)) & 0xe0 | high | UInt8(map - 3), UInt8(bits(32, 8)) | vvvv]
    default:
      bytes += [
        0x62, UInt8(bits(24, 8)) & 0xf0 | high | UInt8(1 + bits(41, 8) % 6), UInt8(bits(32, 8)) | vvvv | 4,
        UInt8(bits(42, 8)),
      ]
    }
    bytes.append(opcode)
    buffer.copyBytes(from: bytes)
  }
}

extension Comparison {
  /// Prints what was compared and fails if anything differs.
  func conclude(_ name: String) {
    let sets = unsupported.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    print("\(name), \(mode): \(compared) compared, \(valid) valid in both, not supported: \(sets)")
    if !findings.isEmpty { print(summary) }
    #expect(findings.isEmpty)
  }
}
