import TrivisorX86

/// The x87 state in the form of FXSAVE: 160 bytes, the registers in the order of their stack (AMD64 APM vol. 2, 11.4.4).
struct X87Image {
  /// Offsets of the words and of the eight registers, each in 16 bytes.
  static let control = 0, status = 2, abridgedTags = 4, registers = 32
  /// The pointers (`X87Pointers`).
  static let opcode = 6, instruction = 8, operand = 16
  static let size = 160
  /// FCW after FNINIT: extended precision, all exceptions masked.
  static let initialControl: UInt16 = 0x37f
  /// The six mask bits of FCW.
  private static let exceptionMasks: UInt16 = 0x3f
  /// FSW.ES.
  private static let errorSummary: UInt16 = 1 << 7
  /// FSW.TOP.
  private static let top: UInt16 = 7 << 11

  let bytes: UnsafeMutableRawPointer

  init(_ bytes: UnsafeMutableRawPointer) { self.bytes = bytes }

  var controlWord: UInt16 { bytes.load(fromByteOffset: Self.control, as: UInt16.self) }
  var statusWord: UInt16 { bytes.load(fromByteOffset: Self.status, as: UInt16.self) }
  /// FSW.ES: an exception is pending that is not masked.
  var hasPendingError: Bool { statusWord & Self.errorSummary != 0 }
  /// FSW.TOP: the physical number of ST(0).
  private var topOfStack: Int { Int((statusWord & Self.top) >> 11) }

  /// All but the pointers, and the 8 bytes behind them, which are MXCSR and its mask.
  func copy(from source: UnsafeRawPointer) {
    bytes.copyMemory(from: source, byteCount: Self.opcode)
    (bytes + Self.registers).copyMemory(from: source + Self.registers, byteCount: 128)
  }

  /// As FNINIT leaves it, with zeroes in the registers, as XRSTOR does.
  func clear() {
    bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.size)
    bytes.storeBytes(of: Self.initialControl, as: UInt16.self)
  }

  /// What FNSTENV does behind its store.
  func maskExceptions() {
    bytes.storeBytes(of: controlWord | Self.exceptionMasks, toByteOffset: Self.control, as: UInt16.self)
  }

  /// The full tag word of the abridged one and the registers: valid, zero, special, empty.
  var fullTags: UInt16 {
    let abridged = bytes.load(fromByteOffset: Self.abridgedTags, as: UInt8.self)
    var tags: UInt16 = 0
    for physical in 0..<8 {
      var tag: UInt16 = 3
      if abridged & 1 << UInt8(physical) != 0 {
        let place = Self.registers + 16 * ((physical - topOfStack) & 7)
        let significand = bytes.load(fromByteOffset: place, as: UInt64.self)
        let exponent = bytes.load(fromByteOffset: place + 8, as: UInt16.self) & 0x7fff
        switch exponent {
        case 0: tag = significand == 0 ? 1 : 2
        case 0x7fff: tag = 2
        default: tag = significand >> 63 != 0 ? 0 : 2
        }
      }
      tags |= tag << UInt16(2 * physical)
    }
    return tags
  }

  /// What any MMX instruction does, one that faults too: every x87 register becomes valid and TOP 0. In this form, which has
  /// the registers in the order of the x87 stack, they change places by that.
  func turnToMedia() {
    let top = topOfStack
    var words = InlineArray<16, UInt64>(repeating: 0)
    for number in 0..<8 {
      let place = bytes + Self.registers + 16 * ((number - top) & 7)
      words[2 * number] = place.load(as: UInt64.self)
      words[2 * number + 1] = (place + 8).load(as: UInt64.self)
    }
    for index in 0..<16 {
      bytes.storeBytes(of: words[index], toByteOffset: Self.registers + 8 * index, as: UInt64.self)
    }
    bytes.storeBytes(of: statusWord & ~Self.top, toByteOffset: Self.status, as: UInt16.self)
    bytes.storeBytes(of: 0xff, toByteOffset: Self.abridgedTags, as: UInt8.self)
  }
}
