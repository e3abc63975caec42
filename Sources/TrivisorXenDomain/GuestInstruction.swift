/// As much of an instruction as the hypervisor must understand: prefixes, opcode, ModRM with its address, immediates by
/// whoever reads on. Addresses of 64-bit and of 32-bit code, in flat segments.
struct GuestInstruction {
  private let bytes: InstructionBytes
  private let is64Bit: Bool
  /// An address of another size than the code's: of 32 bits in 64-bit code, of 16 bits in 32-bit code.
  private(set) var addressPrefix = false
  private(set) var position = 0
  private(set) var operandPrefix = false
  private(set) var repeats = false
  private(set) var rex: UInt8 = 0
  /// One or two bytes: 0x0f30 for WRMSR.
  private(set) var opcode: UInt16 = 0
  private(set) var modRM: UInt8 = 0

  /// - Parameter bytes: what could be read at RIP, at most 15.
  init?(_ bytes: InstructionBytes, is64Bit: Bool = true) {
    self.bytes = bytes
    self.is64Bit = is64Bit
    prefixes: while let byte = next() {
      switch byte {
      case 0x66: operandPrefix = true
      case 0xf3, 0xf2: repeats = true
      case 0x67: addressPrefix = true
      case 0x26, 0x2e, 0x36, 0x3e: break
      // FS and GS would change addresses, and no kernel needs them here.
      case 0x64, 0x65: return nil
      case 0x40...0x4f where is64Bit:
        rex = byte
        guard let first = next() else { return nil }
        opcode = UInt16(first)
        break prefixes
      default:
        opcode = UInt16(byte)
        break prefixes
      }
    }
    if opcode == 0x0f {
      guard let second = next() else { return nil }
      opcode = 0x0f00 | UInt16(second)
    }
    guard opcode != 0 else { return nil }
  }

  private mutating func next() -> UInt8? {
    guard position < bytes.count else { return nil }
    defer { position += 1 }
    return bytes[position]
  }

  var isWide: Bool { rex & 8 != 0 }

  mutating func immediate() -> UInt8? { next() }

  mutating func immediate32() -> Int32? {
    guard position + 4 <= bytes.count else { return nil }
    defer { position += 4 }
    return bytes.word(at: position)
  }

  mutating func readModRM() -> Bool {
    guard let byte = next() else { return false }
    modRM = byte
    return true
  }

  var register: Int { Int(modRM >> 3 & 7 | (rex & 4) << 1) }
  var baseRegister: Int { Int(modRM & 7 | (rex & 1) << 3) }
  var namesMemory: Bool { modRM < 0xc0 }

  /// The address that ModRM names, behind which the instruction must end but for `immediateSize` bytes.
  mutating func address(_ registers: DomainRegisters, immediateSize: Int = 0) -> UInt64? {
    var address: UInt64 = 0
    let mode = modRM >> 6
    var displacementSize = mode == 1 ? 1 : mode == 2 ? 4 : 0
    var isRelative = false
    if modRM & 7 == 4 {
      guard let sib = next() else { return nil }
      let index = Int(sib >> 3 & 7 | (rex & 2) << 2)
      if index != 4 { address = registers.general(index) << UInt64(sib >> 6) }
      if sib & 7 == 5, mode == 0 {
        displacementSize = 4
      } else {
        address &+= registers.general(Int(sib & 7 | (rex & 1) << 3))
      }
    } else if modRM & 7 == 5, mode == 0 {
      displacementSize = 4
      isRelative = true
    } else {
      address = registers.general(baseRegister)
    }
    if displacementSize == 1 {
      guard let byte = next() else { return nil }
      address &+= UInt64(bitPattern: Int64(Int8(bitPattern: byte)))
    } else if displacementSize == 4 {
      guard position + 4 <= bytes.count else { return nil }
      let value = bytes.word(at: position)
      position += 4
      address &+= UInt64(bitPattern: Int64(value))
    }
    if isRelative, is64Bit { address &+= registers.rip &+ UInt64(position + immediateSize) }
    if !is64Bit { guard !addressPrefix else { return nil } }
    return is64Bit && !addressPrefix ? address : address & 0xffff_ffff
  }
}
