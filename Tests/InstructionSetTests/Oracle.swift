import TrivisorCZydis
import TrivisorInstructionSet

/// Zydis set to the processor that this project announces: AMD's branches, no MPX, no CET, no CLDEMOTE (their opcodes
/// are NOPs then), LZCNT and TZCNT.
struct Oracle {
  private var decoder = ZydisDecoder()
  private var context = ZydisDecoderContext()
  private(set) var instruction = ZydisDecodedInstruction()
  private let operandStorage = UnsafeMutablePointer<ZydisDecodedOperand>.allocate(capacity: 10)
  private(set) var status: ZyanStatus = 0

  init(mode: CPUMode) {
    let (machine, stack) =
      switch mode {
      case .bits64: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
      case .bits32: (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
      case .bits16: (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
      }
    ZydisDecoderInit(&decoder, machine, stack)
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, 1)
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, 0)
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, 0)
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, 0)
  }

  mutating func decode(_ bytes: UnsafeRawBufferPointer) -> Bool {
    status = ZydisDecoderDecodeInstruction(&decoder, &context, bytes.baseAddress, ZyanUSize(bytes.count), &instruction)
    return isDecoded
  }

  var isDecoded: Bool { status & 0x8000_0000 == 0 }
  var needsMoreBytes: Bool { status == 0x8020_0000 }
  var isTooLong: Bool { status == 0x8020_0002 }

  /// The operands of the instruction just decoded, hidden ones included.
  mutating func operands() -> UnsafeBufferPointer<ZydisDecodedOperand> {
    let count = instruction.operand_count
    ZydisDecoderDecodeOperands(&decoder, &context, &instruction, operandStorage, count)
    return UnsafeBufferPointer(start: operandStorage, count: Int(count))
  }

  var mnemonic: String { ZydisMnemonicGetString(instruction.mnemonic).map { String(cString: $0) } ?? "?" }
  var isaSet: String { ZydisISASetGetString(instruction.meta.isa_set).map { String(cString: $0) } ?? "?" }
  var category: String { ZydisCategoryGetString(instruction.meta.category).map { String(cString: $0) } ?? "?" }
}

/// A register of Zydis by kind and number.
enum OracleRegister: Hashable {
  case general(UInt8, size: UInt16, isHighByte: Bool)
  case x87(UInt8), mmx(UInt8), vector(UInt8), segment(UInt8), control(UInt8), debug(UInt8)
  case ip, other

  init(_ register: ZydisRegister) {
    let number = Int(register.rawValue)
    func from(_ first: ZydisRegister) -> UInt8 { UInt8(number - Int(first.rawValue)) }
    func lies(_ first: ZydisRegister, _ last: ZydisRegister) -> Bool {
      number >= Int(first.rawValue) && number <= Int(last.rawValue)
    }
    if lies(ZYDIS_REGISTER_AL, ZYDIS_REGISTER_R15B) {
      let index = from(ZYDIS_REGISTER_AL)
      self =
        index < 4
        ? .general(index, size: 1, isHighByte: false)
        : index < 8
          ? .general(index - 4, size: 1, isHighByte: true) : .general(index - 4, size: 1, isHighByte: false)
    } else if lies(ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W) {
      self = .general(from(ZYDIS_REGISTER_AX), size: 2, isHighByte: false)
    } else if lies(ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D) {
      self = .general(from(ZYDIS_REGISTER_EAX), size: 4, isHighByte: false)
    } else if lies(ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15) {
      self = .general(from(ZYDIS_REGISTER_RAX), size: 8, isHighByte: false)
    } else if lies(ZYDIS_REGISTER_ST0, ZYDIS_REGISTER_ST7) {
      self = .x87(from(ZYDIS_REGISTER_ST0))
    } else if lies(ZYDIS_REGISTER_MM0, ZYDIS_REGISTER_MM7) {
      self = .mmx(from(ZYDIS_REGISTER_MM0))
    } else if lies(ZYDIS_REGISTER_XMM0, ZYDIS_REGISTER_ZMM31) {
      self = .vector(from(ZYDIS_REGISTER_XMM0) & 31)
    } else if lies(ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS) {
      self = .segment(from(ZYDIS_REGISTER_ES))
    } else if lies(ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15) {
      self = .control(from(ZYDIS_REGISTER_CR0))
    } else if lies(ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15) {
      self = .debug(from(ZYDIS_REGISTER_DR0))
    } else if lies(ZYDIS_REGISTER_IP, ZYDIS_REGISTER_RIP) {
      self = .ip
    } else {
      self = .other
    }
  }

  var generalNumber: UInt8? {
    if case .general(let number, _, _) = self { number } else { nil }
  }
}

extension Oracle {
  var isPrivileged: Bool { instruction.attributes & Self.privilegedAttribute != 0 }
  /// ZYDIS_ATTRIB_IS_PRIVILEGED, a macro that isn't imported.
  private static let privilegedAttribute: ZydisInstructionAttributes = 1 << 8
}
