/// Where things are in the guest, which has its memory at linear addresses that are physical ones, and some of it once more.
enum Layout {
  static let memorySize: UInt64 = 1 << 20
  static let descriptors: UInt32 = 0x1000, gates: UInt32 = 0x1800, taskStates: UInt32 = 0x2000
  static let handlers: UInt32 = 0x3000
  /// Where a processor is started, in real mode.
  static let firstCode: UInt32 = 0xb000
  static let level4: UInt32 = 0x4000, level3: UInt32 = 0x5000, level2: UInt32 = 0x6000, level1: UInt32 = 0x7000

  // Shared words.
  /// Up to which version of a function everybody may be sure.
  static func flag(_ function: Int) -> UInt32 { 0x8000 + 64 * UInt32(function) }
  static let started: UInt32 = 0x8800, finished: UInt32 = 0x8840
  /// How often the moving page has moved, and who has seen it.
  static let moves: UInt32 = 0x8880
  static func acknowledged(_ processor: Int) -> UInt32 { 0x8900 + 64 * UInt32(processor) }

  static func program(_ processor: Int) -> UInt32 { 0x1_0000 + 0x3000 * UInt32(processor) }
  static let programSize = 0x3000

  // A processor's own memory.
  static func own(_ processor: Int) -> UInt32 { 0x4_0000 + 0x8000 * UInt32(processor) }
  static let acknowledgePointer: UInt32 = 0x10, interrupts: UInt32 = 0x18, temporary: UInt32 = 0x20
  static func version(_ function: Int) -> UInt32 { 0x100 + 4 * UInt32(function) }
  static let codeVersion: UInt32 = 0x200, wordVersion: UInt32 = 0x204
  static func pointer(_ function: Int) -> UInt32 { 0x400 + 8 * UInt32(function) }
  static let kernelStack: UInt32 = 0x1ff0, stack: UInt32 = 0x2ff0, log: UInt32 = 0x3000
  static let logCount = 0x5000 / 16

  /// Four pages of functions, and one that they jump to, also seen at the alias.
  static let functions: UInt32 = 0xc_0000, leaves: UInt32 = 0xc_4000
  static let alias: UInt32 = 0x10_0000
  static func counter(page: Int) -> UInt32 { functions + 4096 * UInt32(page) + 0xa00 }
  static func word(_ processor: Int, page: Int) -> UInt32 {
    functions + 4096 * UInt32(page) + 0xb00 + 4 * UInt32(processor)
  }
  /// On two pages.
  static let splitCounter: UInt32 = functions + 0x2ffc

  /// What the moving page may be, one after the other.
  static let pool: UInt32 = 0xc_8000
  static let poolCount = 8
  static let moving: UInt32 = 0x11_0000
  static let movingOffset: UInt32 = 0x43

  static let endPort: UInt8 = 0x10, exceptionPort: UInt8 = 0x12
  static let vector: UInt8 = 0x40
}
