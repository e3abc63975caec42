import TrivisorInstructionSet

/// The decoder. The first byte is the processor's mode.
final class InstructionTarget: FuzzTarget {
  static let name = "instruction"
  static let sizeLimit = 24
  static let seeds: [[UInt8]] = [
    [2, 0x48, 0x89, 0xe5], [2, 0xf0, 0x48, 0x0f, 0xc7, 0x0f], [2, 0xc4, 0xe2, 0x7d, 0x18, 0x05, 1, 2, 3, 4],
    [2, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x00], [1, 0x67, 0x66, 0xf3, 0xa5], [0, 0xea, 0, 0x7c, 0, 0],
    [2, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], [2, 0xdb, 0x3c, 0x24], [2, 0x0f, 0x01, 0xf8],
  ]

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let mode = [CPUMode.bits16, .bits32, .bits64][Int(input.byte()) % 3]
    let code = input.remainder()
    guard case .instruction(let instruction) = Decoder(mode: mode).decode(code) else { return }
    precondition(instruction.length > 0 && instruction.length <= min(15, code.count))
  }
}
