// Work without privilege: integers, memory, calls, floating point and vectors, all in user mode, where every technique
// runs code at its best. Each stage starts from the result of the one before it, so that the last checksum depends on
// everything, and one wrong bit anywhere shows.
//
// `scale=N` does the same work N times; each round must come to the same checksum.

#if KERNEL

import CPlatform

@main
enum Compute {
  /// What real processors come to.
  static let expected: UInt64 = 0xa87e_3b47_0467_268d

  static func main() {
    guard let scale = Arguments.isEmpty ? 1 : Arguments.number("scale="), scale > 0 else {
      Console.print("The only argument is scale=N, N from 1.")
      Platform.exit(2)
    }
    var checksum: UInt64 = 0
    for round in 0..<scale {
      checksum = self.round(printing: round == 0)
      if checksum != expected {
        Console.print(
          "Round \(round): checksum \(hexadecimal: checksum, digits: 16), expected \(hexadecimal: expected).")
        Platform.exit(1)
      }
    }
    Console.print("Rounds: \(scale). Checksum \(hexadecimal: checksum, digits: 16), as expected.")
    Platform.exit(0)
  }

  nonisolated(unsafe) static var process: UserProcess?

  /// One run of the user program; it reports each stage's result by a system call with the stage's number.
  static func round(printing: Bool) -> UInt64 {
    if process == nil { process = UserProcess(argument: 0, dataPages: 16 + Work.pages, stackPages: 4) }
    guard let process else {
      Console.print("No memory for the user program.")
      Platform.exit(1)
    }
    while true {
      guard case .systemCall(let stage, let result, _) = process.run() else {
        Platform.report(process.frame)
        Platform.exit(1)
      }
      if stage == Work.done { return result }
      if printing { Console.print("\(name(of: stage)) \(hexadecimal: result, digits: 16)") }
    }
  }

  static func name(of stage: UInt64) -> StaticString {
    switch stage {
    case 1: "integer:       "
    case 2: "memory:        "
    case 3: "calls:         "
    case 4: "floating point:"
    case 5: "x87:           "
    case 6: "vector:        "
    default: "?"
    }
  }
}

#else

import CUser

/// A round after another, for ever: the kernel decides when it has seen enough.
@c(user_main)
func work(_ argument: UInt64) {
  while true {
    var checksum = Work.integer(0x0123_4567_89ab_cdef)
    _ = systemCall(1, checksum, 0)
    checksum = Work.memory(checksum)
    _ = systemCall(2, checksum, 0)
    checksum = Work.calls(checksum)
    _ = systemCall(3, checksum, 0)
    checksum = Work.floatingPoint(checksum)
    _ = systemCall(4, checksum, 0)
    checksum = Work.extendedPrecision(checksum)
    _ = systemCall(5, checksum, 0)
    checksum = Work.vector(checksum)
    _ = systemCall(6, checksum, 0)
    _ = systemCall(Work.done, checksum, 0)
  }
}

extension Work {
  /// Beyond the program's own data.
  static var words: UnsafeMutablePointer<UInt64> { UnsafeMutablePointer(bitPattern: 0x4011_0000).unsafelyUnwrapped }
  static var count: Int { Int(pages) * 512 }

  static func mix(_ hash: UInt64, _ value: UInt64) -> UInt64 {
    let product = (hash ^ value) &* 0x9e37_79b9_7f4a_7c15
    return product ^ product >> 29
  }

  /// Multiplication, division, shifts and rotations by variable amounts, at every width.
  static func integer(_ seed: UInt64) -> UInt64 {
    var hash = seed
    var state = seed | 1
    for i in 1...200_000 as ClosedRange<UInt64> {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      let wide = state.multipliedFullWidth(by: hash | 1)
      let amount = state & 63
      hash = (hash &<< amount | hash &>> (64 &- amount & 63)) &+ wide.high
      hash ^= wide.low / (i | 0x10000)
      let small = UInt32(truncatingIfNeeded: state) | 1
      hash = hash &+ UInt64(UInt32(truncatingIfNeeded: hash) % small)
      let signed = Int16(truncatingIfNeeded: state) &* Int16(truncatingIfNeeded: hash)
      hash = hash &+ UInt64(bitPattern: Int64(signed &>> 3))
      let byte = UInt8(truncatingIfNeeded: hash) &+ UInt8(truncatingIfNeeded: i)
      hash = mix(hash, byte > 127 ? UInt64(byte) : state)
    }
    return hash
  }

  /// A shuffled cycle through the whole array, walked; then copies that overlap, and bytes.
  static func memory(_ seed: UInt64) -> UInt64 {
    var state = seed | 1
    for i in 0..<count { words[i] = UInt64(i) }
    for i in stride(from: count - 1, to: 0, by: -1) {  // Sattolo: one cycle
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let other = Int(truncatingIfNeeded: (state >> 33) % UInt64(i))
      let word = words[i]
      words[i] = words[other]
      words[other] = word
    }
    var hash = seed
    var position = 0
    for _ in 0..<count {
      position = Int(truncatingIfNeeded: words[position])
      hash = mix(hash, UInt64(position))
    }
    let bytes = UnsafeMutableRawPointer(words)
    (bytes + 3).copyMemory(from: bytes, byteCount: count * 8 - 3)
    bytes.copyMemory(from: bytes + 4099, byteCount: count * 4)
    for i in stride(from: 0, to: count * 8 - 8, by: 61) {
      hash = mix(hash, bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self))
      bytes.storeBytes(of: UInt16(truncatingIfNeeded: hash), toByteOffset: i + 1, as: UInt16.self)
    }
    return hash
  }

  /// Returns that no call predictor has at hand, and calls through a table.
  static func calls(_ seed: UInt64) -> UInt64 {
    var hash = seed
    for i in 0..<40_000 as Range<UInt64> {
      let step: @convention(c) (UInt64, UInt64) -> UInt64 =
        switch hash >> 60 {
        case 0...3: { ($0 &+ $1) ^ $0 >> 11 }
        case 4...7: { ($0 ^ $1) &* 5 }
        case 8...11: { $0 &- $1 &* 3 }
        default: { ~$0 ^ $1 << 7 }
        }
      hash = mix(step(hash, i), hash)
    }
    return mix(hash, fibonacci(21, hash))
  }

  @_optimize(none)
  static func fibonacci(_ n: UInt64, _ hash: UInt64) -> UInt64 {
    n < 2 ? n ^ hash : fibonacci(n - 1, hash) &+ fibonacci(n - 2, hash)
  }

  /// Points of the Mandelbrot set, and Newton's method: double precision with division, roots and conversions.
  static func floatingPoint(_ seed: UInt64) -> UInt64 {
    var hash = seed
    for row in 0..<40 {
      for column in 0..<60 {
        let x0 = Double(column) / 20 - 2 + Double(hash & 15) / 1024
        let y0 = Double(row) / 20 - 1
        var x = 0.0
        var y = 0.0
        var steps: UInt64 = 0
        while x * x + y * y < 4, steps < 60 {
          (x, y) = (x * x - y * y + x0, 2 * x * y + y0)
          steps += 1
        }
        let root = (x * x + y * y + 0.5).squareRoot()
        hash = mix(hash, root.bitPattern &+ steps)
        let narrow = Float(root) / 3
        hash = mix(hash, UInt64(narrow.bitPattern) &+ UInt64(root * 1000))
      }
    }
    return hash
  }

  /// Series and roots in 80 bits: the stack of the x87.
  static func extendedPrecision(_ seed: UInt64) -> UInt64 {
    var hash = seed
    for start in 1...200 as ClosedRange<UInt64> {
      let sum = extendedSum(start << 8 &+ hash & 255, 4096)
      hash = mix(hash, sum.significand &+ UInt64(sum.exponentAndSign))
      hash = mix(hash, sum.narrowed)
    }
    return hash
  }

  /// Integers and floating point in 128-bit vectors.
  static func vector(_ seed: UInt64) -> UInt64 {
    let low = UInt32(truncatingIfNeeded: seed)
    let high = UInt32(truncatingIfNeeded: seed >> 32)
    var integers = SIMD4<UInt32>(low, high, low ^ high, low &+ high)
    var floats = SIMD4<Float>(1, 2, 3, 4)
    var doubles = SIMD2<Double>(0.25, 0.75)
    var bytes = SIMD16<UInt8>(repeating: 7)
    for i in 0..<60_000 as Range<UInt32> {
      integers = integers &* SIMD4(repeating: 1_664_525) &+ SIMD4(repeating: i)
      integers ^= integers &>> SIMD4(repeating: 15)
      let mask = integers .< SIMD4(repeating: 0x8000_0000)
      floats = floats * 1.0625 + SIMD4<Float>(integers & SIMD4(repeating: 0xffff))
      floats = (floats / 3).replacing(with: floats / 5, where: mask)
      doubles = 3.875 * doubles * (1 - doubles)
      bytes = bytes &+ unsafeBitCast(integers, to: SIMD16<UInt8>.self)
      bytes.replace(with: ~bytes, where: bytes .> 200)
    }
    var hash = seed
    for lane in 0..<4 { hash = mix(hash, UInt64(integers[lane]) << 32 | UInt64(floats[lane].bitPattern)) }
    for lane in 0..<2 { hash = mix(hash, doubles[lane].bitPattern) }
    for lane in 0..<16 { hash = mix(hash, UInt64(bytes[lane])) }
    return hash
  }
}

#endif

/// What the kernel and its user program agree on.
enum Work {
  /// 1 MiB to work on.
  static var pages: UInt64 { 256 }

  /// The system call that ends a round; smaller numbers are stages.
  static var done: UInt64 { 7 }
}
