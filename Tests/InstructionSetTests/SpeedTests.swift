import TrivisorCZydis
import Foundation
import TrivisorInstructionSet
import Testing

/// Prints figures; there is nothing to fail. They mean something in a release build only.
@Suite("Speed", .serialized)
struct SpeedTests {
  @Test("millions of instructions a second, over this machine's programs, beside Zydis")
  func decoding() {
    let clock = ContinuousClock()
    let first = clock.measure { _ = Decoder(mode: .bits64) }
    print("first decoder, with the table to be read unless another test was faster: \(first)")
    let decoder = Decoder(mode: .bits64)
    for executable in Executable.ofThisMachine() {
      guard let text = executable.sections.max(by: { $0.count < $1.count }), text.count > 400_000 else { continue }
      text.withUnsafeBytes { bytes in
        let sample = UnsafeRawBufferPointer(rebasing: bytes.prefix(Effort.isFull ? 4_000_000 : 20_000))
        let plain = Self.rate(sample) { Self.sweep(decoder, sample) { _ in 0 } }
        let scan = Self.rate(sample) { Self.sweep(decoder, sample, Self.scan) }
        let full = Self.rate(sample) { Self.sweep(decoder, sample) { Int($0.effects.general.read.rawValue) } }
        let zydis = Self.rate(sample) { Self.sweepZydis(sample, withOperands: false) }
        let zydisFull = Self.rate(sample) { Self.sweepZydis(sample, withOperands: true) }
        let name = executable.path.split(separator: "/").last ?? ""
        print(
          "\(name): decode \(plain), scan \(scan), with effects \(full); Zydis \(zydis), with operands \(zydisFull) M/s"
        )
      }
    }
  }

  /// What a translator asks of each instruction: its class, and if there is memory, where and how wide.
  @inline(__always)
  private static func scan(_ instruction: Instruction) -> Int {
    if instruction.classification != .innocuous { return Int(instruction.classification.rawValue) }
    guard instruction.hasModRMMemory, let memory = instruction.memoryOperand else {
      return Int(instruction.operandSize)
    }
    return Int(memory.size) + (memory.isRIPRelative ? 1 : 0) + Int(memory.access.rawValue)
  }

  /// Processor time of this thread in seconds: other load on the machine disturbs it less than the wall clock.
  private static func cpuTime() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  private static func rate(_ bytes: UnsafeRawBufferPointer, _ body: () -> (count: Int, sum: Int)) -> String {
    var best = 0.0
    for _ in 0..<3 {
      let start = cpuTime()
      let count = body().count
      let seconds = cpuTime() - start
      best = max(best, Double(count) / seconds / 1e6)
    }
    return String((best * 10).rounded() / 10)
  }

  @inline(__always)
  private static func sweep(
    _ decoder: Decoder, _ bytes: UnsafeRawBufferPointer, _ use: (Instruction) -> Int
  ) -> (count: Int, sum: Int) {
    var offset = 0
    var count = 0
    var sum = 0
    var instruction = Instruction(mode: decoder.mode)
    while offset < bytes.count {
      switch decoder.decode(UnsafeRawBufferPointer(rebasing: bytes[offset...]), into: &instruction) {
      case .decoded:
        sum &+= use(instruction)
        offset += max(Int(instruction.length), 1)
      case .needsMoreBytes, .tooLong: offset += 1
      }
      count += 1
    }
    return (count, sum)
  }

  private static func sweepZydis(_ bytes: UnsafeRawBufferPointer, withOperands: Bool) -> (count: Int, sum: Int) {
    var oracle = Oracle(mode: .bits64)
    var offset = 0
    var count = 0
    var sum = 0
    while offset < bytes.count {
      if oracle.decode(UnsafeRawBufferPointer(rebasing: bytes[offset...])) {
        if withOperands { sum &+= oracle.operands().count }
        offset += Int(oracle.instruction.length)
      } else {
        offset += 1
      }
      count += 1
    }
    return (count, sum)
  }
}
