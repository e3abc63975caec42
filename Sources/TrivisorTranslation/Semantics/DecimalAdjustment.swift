import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// DAA, DAS, AAA, AAS, AAM and AAD, which 64-bit mode has lost (AMD64 APM vol. 3).
struct DecimalAdjustment<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction) throws(Interruption) {
    switch instruction.operation {
    case .daa: adjustPacked(isSubtraction: false)
    case .das: adjustPacked(isSubtraction: true)
    case .aaa: adjustUnpacked(isSubtraction: false)
    case .aas: adjustUnpacked(isSubtraction: true)
    case .aam:
      let base = UInt64(bitPattern: instruction.immediate) & 0xff
      guard base != 0 else { throw .exception(.divide) }
      let value = context.general(.rax, size: 1)
      context.setGeneral(.rax, (value / base) << 8 | value % base, size: 2)
      context.arithmeticFlags = RFLAGS(ofByte: value % base)
    default:
      let base = UInt64(bitPattern: instruction.immediate) & 0xff
      let value = context.general(.rax, size: 2)
      let result = (value & 0xff &+ (value >> 8) &* base) & 0xff
      context.setGeneral(.rax, result, size: 2)
      context.arithmeticFlags = RFLAGS(ofByte: result)
    }
  }

  /// DAA and DAS. CF and AF as AMD's processors set them; OF becomes 0.
  private func adjustPacked(isSubtraction: Bool) {
    let old = context.general(.rax, size: 1)
    let flags = context.arithmeticFlags
    var value = old
    var new: RFLAGS = []
    if old & 15 > 9 || flags.contains(.auxiliary) {
      value = isSubtraction ? value &- 6 : value &+ 6
      new.insert(.auxiliary)
      if isSubtraction, old < 6 { new.insert(.carry) }
    }
    if old > 0x99 || flags.contains(.carry) {
      value = isSubtraction ? value &- 0x60 : value &+ 0x60
      new.insert(.carry)
    }
    context.setGeneral(.rax, value & 0xff, size: 1)
    context.arithmeticFlags = RFLAGS(ofByte: value).union(new)
  }

  /// AAA and AAS.
  private func adjustUnpacked(isSubtraction: Bool) {
    var value = context.general(.rax, size: 2)
    let isAdjusted = value & 15 > 9 || context.arithmeticFlags.contains(.auxiliary)
    if isAdjusted { value = isSubtraction ? value &- 0x106 : value &+ 0x106 }
    value &= 0xff0f
    context.setGeneral(.rax, value, size: 2)
    context.arithmeticFlags = RFLAGS(ofByte: value).union(isAdjusted ? [.carry, .auxiliary] : [])
  }
}

extension RFLAGS {
  /// SF, ZF and PF of a result's low byte.
  init(ofByte value: UInt64) {
    self = []
    if value & 0x80 != 0 { insert(.sign) }
    if value & 0xff == 0 { insert(.zero) }
    if UInt8(truncatingIfNeeded: value).nonzeroBitCount % 2 == 0 { insert(.parity) }
  }
}
