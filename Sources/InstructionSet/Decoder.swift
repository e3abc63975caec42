/// What came of decoding at an address.
public enum DecodingResult: Sendable, BitwiseCopyable {
  /// Whole, though possibly undefined: see `Instruction.classification`.
  case instruction(Instruction)
  /// The bytes ended before the instruction did. Nothing is known but that more must be fetched; if that faults, the
  /// fault comes before any #UD.
  case needsMoreBytes
  /// Longer than 15 bytes: #GP(0) (AMD64 APM vol. 3, 1.1).
  case tooLong
}

/// Decodes x86 code of one mode.
public struct Decoder: Sendable {
  public let mode: CPUMode
  let tables: OpcodeTables

  public static let maximumLength = 15

  public init(mode: CPUMode) {
    self.mode = mode
    tables = OpcodeTables.shared
  }

  /// Decodes the instruction at the start of `bytes`; what lies behind it is not looked at.
  @inlinable
  public func decode(_ bytes: RawSpan) -> DecodingResult {
    unsafe bytes.withUnsafeBytes { decode($0) }
  }

  /// Decodes the instruction at the start of `bytes`; what lies behind it is not looked at.
  public func decode(_ bytes: UnsafeRawBufferPointer) -> DecodingResult {
    if bytes.count >= Self.window, let base = bytes.baseAddress {
      return decode(window: base, limit: Self.maximumLength)
    }
    return withUnsafeTemporaryAllocation(byteCount: Self.window, alignment: 8) { window in
      window.initializeMemory(as: UInt8.self, repeating: 0)
      window.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.maximumLength)))
      guard let base = window.baseAddress else { return .needsMoreBytes }
      return decode(window: UnsafeRawPointer(base), limit: min(bytes.count, Self.maximumLength))
    }
  }

  /// Decoding never looks at an offset past this: 14 prefixes, a 4-byte EVEX prefix, opcode, ModRM, SIB, 8 bytes of
  /// displacement or 4 and 8 of immediate, rounded up. So inside a window of this size no read needs a check of its
  /// own, and the end of the bytes is checked once, at the end of the instruction.
  static let window = 40

  private func decode(window bytes: UnsafeRawPointer, limit: Int) -> DecodingResult {
    var instruction = Instruction(mode: mode)
    let end = decode(bytes, into: &instruction)
    if end > limit {
      return limit == Self.maximumLength ? .tooLong : .needsMoreBytes
    }
    instruction.length = UInt8(truncatingIfNeeded: end)
    return .instruction(instruction)
  }

  /// Returns the offset of the first byte that isn't needed.
  @inline(__always)
  private func decode(_ bytes: UnsafeRawPointer, into instruction: inout Instruction) -> Int {
    var offset = 0
    var byte = bytes.byte(0)

    // Prefixes, of which most instructions have none or a REX.
    let prefixKinds = mode == .bits64 ? PrefixKind.set64 : PrefixKind.set32
    var rex: UInt8 = 0
    while prefixKinds.contains(byte) {
      if mode == .bits64, byte & 0xf0 == 0x40 {
        rex = byte
      } else {
        rex = 0
        readPrefix(byte, into: &instruction)
      }
      offset += 1
      if offset == Self.maximumLength { return offset + 1 }
      byte = bytes.byte(offset)
    }
    if rex != 0 { instruction.prefixes.insert(.rex) }
    instruction.rex = rex & 15
    instruction.prefixCount = UInt8(truncatingIfNeeded: offset)
    if instruction.prefixes.contains(.addressSize) {
      instruction.addressSize = mode == .bits32 ? 2 : 4
    } else {
      instruction.addressSize = mode.defaultAddressSize
    }
    if instruction.prefixes.rawValue & (Prefixes.rep.rawValue | Prefixes.repne.rawValue) != 0 {
      instruction.simdPrefix = instruction.prefixes.contains(.rep) ? 2 : 3
    } else {
      instruction.simdPrefix = instruction.prefixes.contains(.operandSize) ? 1 : 0
    }

    // The opcode and its map.
    var map = FormMap.oneByte.rawValue
    var isListed = true
    switch byte {
    case 0x0f:
      offset += 1
      byte = bytes.byte(offset)
      switch byte {
      case 0x38:
        map = FormMap.escape0F38.rawValue
        offset += 1
      case 0x3a:
        map = FormMap.escape0F3A.rawValue
        offset += 1
      case 0x0f:
        instruction.opcodeMap = Instruction.OpcodeMap.threeDNow
        instruction.feature = .threeDNow
        offset = readModRM(bytes, offset + 1, into: &instruction)
        instruction.opcodeOffset = UInt8(truncatingIfNeeded: offset)
        instruction.opcode = bytes.byte(offset)
        return offset + 1
      default:
        map = FormMap.escape0F.rawValue
      }
      instruction.opcodeMap = UInt8(truncatingIfNeeded: map)
      byte = bytes.byte(offset)
    case 0xc4, 0xc5, 0x62:
      if mode == .bits64 || bytes.byte(offset + 1) >= 0xc0 {
        instruction.encoding = byte == 0x62 ? .evex : .vex
        offset = readVectorPrefix(bytes, offset, into: &instruction)
        guard let vexMap = formMap(of: instruction) else {
          return undefinedVector(bytes, offset, &instruction)
        }
        map = vexMap
        byte = bytes.byte(offset)
        isListed = tables.slots[map * 256 + Int(byte)].first != 0
      }
    case 0x8f:
      if bytes.byte(offset + 1) & 0x1f >= 8 {
        instruction.encoding = .xop
        instruction.opcodeMap = bytes.byte(offset + 1) & 0x1f
        instruction.feature = .xop
        return undefinedVector(bytes, offset + 3, &instruction)
      }
    default: break
    }
    if !isListed { return undefinedVector(bytes, offset, &instruction) }
    instruction.opcode = byte
    instruction.opcodeOffset = UInt8(truncatingIfNeeded: offset)
    offset += 1

    // ModRM, SIB and displacement, as far as the opcode says that there are any.
    let slot = tables.slots[map * 256 + Int(byte)]
    if slot.first == 0 { return offset }
    var key = UInt32(instruction.simdPrefix) << Key.simdPrefixShift
    if slot.hasModRM {
      let modRM = bytes.byte(offset)
      key |= UInt32(modRM)
      if slot.ignoresMod {
        instruction.modRM = modRM
        instruction.modRMOffset = UInt8(truncatingIfNeeded: offset)
        offset += 1
        key |= Key.modIs3
      } else {
        if modRM >= 0xc0 { key |= Key.modIs3 }
        offset = readModRM(bytes, offset, into: &instruction)
      }
    }

    // The form.
    let hasW = instruction.rex & 8 != 0
    let has66 = instruction.prefixes.contains(.operandSize)
    var operandSize: UInt8 =
      mode == .bits64 ? (hasW ? 8 : has66 ? 2 : 4) : ((mode == .bits16) != has66 ? 2 : 4)
    key |= UInt32(operandSize >> 2) << Key.operandSizeShift
    key |= UInt32(instruction.rex & 8) << 7 | UInt32(instruction.rex & 1) << 14
    if mode == .bits64 { key |= Key.bits64 }
    if instruction.encoding == .vex {
      key |= UInt32(instruction.vectorLength) << 11
      if instruction.vvvv == 0 { key |= Key.vvvvIsUnused }
    }
    var index = slot.first
    var form = tables.forms + Int(index)
    while key & form.pointee.mask != form.pointee.value {
      index = form.pointee.next
      if index == 0 { return offset }
      form = tables.forms + Int(index)
    }
    let attributes = form.pointee.attributes
    instruction.form = index
    instruction.attributes = attributes
    instruction.feature = form.pointee.feature
    instruction.classification = form.pointee.classification

    // Widths.
    if mode == .bits64, !attributes.isDisjoint(with: [.default64, .mandatory66, .ignoresW]) {
      if attributes.contains(.mandatory66) {
        operandSize = hasW ? 8 : 4
      } else if attributes.contains(.ignoresW) {
        operandSize = has66 && !hasW ? 2 : 4
      } else if !has66 {
        operandSize = 8
      }
    } else if attributes.contains(.mandatory66) {
      operandSize = mode.defaultOperandSize
    }
    instruction.operandSize = operandSize

    // Immediates.
    if form.pointee.immediate != .none {
      offset = readImmediate(form.pointee.immediate, bytes, offset, into: &instruction)
    }

    if instruction.prefixes.contains(.lock), !attributes.contains(.lockable) || key & Key.modIs3 != 0 {
      instruction.classification = .undefined
    }
    if instruction.encoding == .vex { checkVEX(&instruction) }
    if slot.namesSystemRegister { checkSystemRegister(&instruction) }
    return offset
  }

  /// There are six segment registers, of which CS can't be loaded; CR0, CR2, CR3, CR4 and CR8; DR0 to DR7 (AMD64 APM
  /// vol. 3, "MOV", "MOV CRn", "MOV DRn").
  private func checkSystemRegister(_ instruction: inout Instruction) {
    let number = instruction.reg | instruction.rexR
    let exists: Bool
    switch instruction.opcode {
    case 0x8c: exists = instruction.reg < 6
    case 0x8e: exists = instruction.reg < 6 && instruction.reg != SegmentRegister.cs.rawValue
    case 0x20, 0x22: exists = 0b1_0001_1101 >> UInt16(number) & 1 != 0
    default: exists = number < 8
    }
    if !exists { instruction.classification = .undefined }
  }

  // MARK: Parts

  private func readPrefix(_ byte: UInt8, into instruction: inout Instruction) {
    switch byte {
    case 0x66: instruction.prefixes.insert(.operandSize)
    case 0x67: instruction.prefixes.insert(.addressSize)
    case 0xf0: instruction.prefixes.insert(.lock)
    case 0xf2:
      instruction.prefixes.remove(.rep)
      instruction.prefixes.insert(.repne)
    case 0xf3:
      instruction.prefixes.remove(.repne)
      instruction.prefixes.insert(.rep)
    case 0x64: instruction.segmentOverrideNumber = SegmentRegister.fs.rawValue
    case 0x65: instruction.segmentOverrideNumber = SegmentRegister.gs.rawValue
    default:
      // 26, 2E, 36, 3E: ES, CS, SS, DS, null prefixes in 64-bit mode.
      if mode != .bits64 { instruction.segmentOverrideNumber = byte >> 3 & 3 }
    }
  }

  /// Reads ModRM at `start` and what hangs on it (AMD64 APM vol. 3, 1.4 and 1.5).
  @inline(__always)
  func readModRM(_ bytes: UnsafeRawPointer, _ start: Int, into instruction: inout Instruction) -> Int {
    let modRM = bytes.byte(start)
    instruction.modRM = modRM
    instruction.modRMOffset = UInt8(truncatingIfNeeded: start)
    var offset = start + 1
    let mod = modRM >> 6
    let rm = modRM & 7
    if mod == 3 { return offset }
    var size = 0
    if instruction.addressSize == 2 {
      if mod == 1 { size = 1 } else if mod == 2 || rm == 6 { size = 2 }
    } else {
      var base = rm
      if rm == 4 {
        instruction.sib = bytes.byte(offset)
        instruction.sibOffset = UInt8(truncatingIfNeeded: offset)
        base = instruction.sib & 7
        offset += 1
      }
      if mod == 1 { size = 1 } else if mod == 2 || base == 5 { size = 4 }
    }
    if size == 0 { return offset }
    instruction.displacementOffset = UInt8(truncatingIfNeeded: offset)
    instruction.displacementSize = UInt8(truncatingIfNeeded: size)
    instruction.displacement = bytes.signed(offset, size)
    return offset + size
  }

  @inline(__always)
  private func readImmediate(
    _ kind: Form.Immediate, _ bytes: UnsafeRawPointer, _ start: Int, into instruction: inout Instruction
  ) -> Int {
    let size: Int
    var second = 0
    var isSigned = false
    switch kind {
    case .none: return start
    case .byte: size = 1
    case .signedByte, .relativeByte:
      size = 1
      isSigned = true
    case .word: size = 2
    case .upTo4, .relative:
      size = instruction.operandSize == 2 ? 2 : 4
      isSigned = true
    case .full: size = Int(instruction.operandSize)
    case .farPointer:
      size = instruction.operandSize == 2 ? 2 : 4
      second = 2
    case .wordAndByte:
      size = 2
      second = 1
    case .twoBytes:
      size = 1
      second = 1
    case .directOffset:
      size = Int(instruction.addressSize)
      instruction.displacementOffset = UInt8(truncatingIfNeeded: start)
      instruction.displacementSize = UInt8(truncatingIfNeeded: size)
      instruction.displacement = size == 8 ? bytes.signed(start, 8) : bytes.unsigned(start, size)
      return start + size
    }
    instruction.immediateOffset = UInt8(truncatingIfNeeded: start)
    instruction.immediateSize = UInt8(truncatingIfNeeded: size)
    instruction.immediate = isSigned ? bytes.signed(start, size) : bytes.unsigned(start, size)
    if second != 0 {
      instruction.secondImmediateSize = UInt8(truncatingIfNeeded: second)
      instruction.secondImmediate = UInt16(truncatingIfNeeded: bytes.unsigned(start + size, second))
    }
    return start + size + second
  }
}

extension UnsafeRawPointer {
  @inline(__always)
  func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }

  @inline(__always)
  func signed(_ offset: Int, _ size: Int) -> Int64 {
    switch size {
    case 1: Int64(load(fromByteOffset: offset, as: Int8.self))
    case 2: Int64(loadUnaligned(fromByteOffset: offset, as: Int16.self))
    case 4: Int64(loadUnaligned(fromByteOffset: offset, as: Int32.self))
    default: loadUnaligned(fromByteOffset: offset, as: Int64.self)
    }
  }

  @inline(__always)
  func unsigned(_ offset: Int, _ size: Int) -> Int64 {
    switch size {
    case 1: Int64(byte(offset))
    case 2: Int64(loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    case 4: Int64(loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    default: loadUnaligned(fromByteOffset: offset, as: Int64.self)
    }
  }
}

/// The bytes that are prefixes, as a set of 256 bits.
struct PrefixKind {
  var low: (UInt64, UInt64, UInt64, UInt64)

  @inline(__always)
  func contains(_ byte: UInt8) -> Bool {
    let word =
      switch byte >> 6 {
      case 0: low.0
      case 1: low.1
      case 2: low.2
      default: low.3
      }
    return word >> UInt64(byte & 63) & 1 != 0
  }

  // 26 2E 36 3E | 64 65 66 67 | F0 F2 F3, and 40 to 4F in 64-bit mode.
  static let set32 = PrefixKind(low: (0x4040_4040_0000_0000, 0x0000_00f0_0000_0000, 0, 0x000d_0000_0000_0000))
  static let set64 = PrefixKind(low: (0x4040_4040_0000_0000, 0x0000_00f0_0000_ffff, 0, 0x000d_0000_0000_0000))
}
