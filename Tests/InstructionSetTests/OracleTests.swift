import CZydis
import InstructionSet
import Testing

/// A small generator with a fixed sequence (SplitMix64).
struct Sequence64 {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite struct OracleTests {
  @Test(arguments: CPUMode.allCases) func structured(mode: CPUMode) {
    var comparison = Comparison(mode: mode)
    var random = Sequence64(state: 1)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
    for map in 0..<4 {
      for opcode in 0..<256 {
        for _ in 0..<800 {
          for i in 0..<8 { buffer.storeBytes(of: random.next(), toByteOffset: i * 8, as: UInt64.self) }
          var n = 0
          let r = random.next()
          if r & 1 != 0 { buffer[n] = [0x66, 0xf2, 0xf3, 0x67][Int(r >> 1 & 3)]; n += 1 }
          if r & 0x18 == 0x18 { buffer[n] = [0x66, 0xf2, 0xf3, 0x67, 0x64, 0x2e, 0xf0, 0x66][Int(r >> 5 & 7)]; n += 1 }
          if mode == .bits64, r & 0x100 != 0 { buffer[n] = 0x40 | UInt8(r >> 9 & 15); n += 1 }
          switch map {
          case 1: buffer[n] = 0x0f; n += 1
          case 2: buffer[n] = 0x0f; buffer[n + 1] = 0x38; n += 2
          case 3: buffer[n] = 0x0f; buffer[n + 1] = 0x3a; n += 2
          default: break
          }
          buffer[n] = UInt8(opcode)
          comparison.compare(UnsafeRawBufferPointer(buffer))
        }
      }
    }
    print(comparison.summary)
    print(mode, comparison.compared, comparison.valid, comparison.unsupported)
    #expect(comparison.findings.isEmpty)
  }
}
