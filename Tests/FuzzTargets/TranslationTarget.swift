import TrivisorTranslation
import TrivisorVMM

/// The translator, whose code is not run. The first byte says whether it is a kernel's, and where in its page it lies.
final class TranslationTarget: FuzzTarget {
  static let name = "translation"
  static let sizeLimit = 256
  static let seeds: [[UInt8]] =
    InstructionTarget.seeds + [
      // push %rbp; mov %rsp,%rbp; cmp %rsi,(%rdi); jne; lock cmpxchg; ret
      [0, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x39, 0x37, 0x75, 0x05, 0xf0, 0x48, 0x0f, 0xb1, 0x0f, 0xc3],
      [1, 0x0f, 0x01, 0xf8, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x0f, 0x30, 0x48, 0xcf],
      [0, 0xf3, 0x48, 0xa5, 0xf2, 0xae, 0x0f, 0xa2, 0xc8, 16, 0, 1, 0xc9, 0xc2, 8, 0],
      [0, 0xdd, 0x45, 0xf8, 0xd8, 0xc1, 0xdb, 0x7d, 0xe0, 0xd9, 0x75, 0x80, 0x0f, 0xae, 0x07, 0xeb, 0xfe],
    ]

  private let memory: GuestMemory
  private let kernel: TranslationMeter
  private let user: TranslationMeter

  init() throws {
    memory = try GuestMemory(size: 1 << 20, isShareable: false)
    kernel = try TranslationMeter(memory: memory, isUser: false)
    user = try TranslationMeter(memory: memory, isUser: true)
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let form = input.byte()
    let meter = form & 1 == 0 ? user : kernel
    meter.translate(input.remainder(), page: UInt64(form >> 1), linear: 0xffff_ffff_8100_0000 &+ UInt64(form) << 12)
  }
}
