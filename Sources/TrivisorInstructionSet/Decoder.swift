// How x86 code is decoded here.
//
// An instruction is a run of up to fifteen bytes:
//
//     legacy prefixes   REX   opcode           ModRM  SIB  displacement  immediate
//     0 or more         0, 1  1 to 3 bytes, or            0 to 8 bytes  0 to 8 bytes
//                             VEX and 1 byte
//
// Prefixes change widths, the segment and sometimes the opcode itself. The opcode, in one of seven maps, says whether
// ModRM follows. ModRM names a register (`reg`) and a register or memory (`rm`; `mod` 3 is a register); for memory it,
// and SIB, say how much displacement there is. But what the opcode *means* may also depend on ModRM.reg (opcode 80 is
// eight instructions), on mod (0F 01 is twenty), on the prefixes 66, F3, F2 (0F 10 is MOVUPS, MOVUPD, MOVSS, MOVSD), on
// W, on L, on the mode. The manuals' opcode maps show it as cells with footnotes. Here the maps are text, in `Table/`,
// and a cell is a line:
//
//     B1 - ok cmpxchg ~Ev,Gv |~rAX lock w:oszapc
//     │  │ │  │       │      │     │    └ writes OF SF ZF AF PF CF
//     │  │ │  │       │      │     └ LOCK is allowed
//     │  │ │  │       │      └ after |, what goes without saying: rAX is read, and written under a condition
//     │  │ │  │       └ operands: ~ read, and written under a condition; E by ModRM.rm, G by ModRM.reg; v: operand size
//     │  │ │  └ mnemonic
//     │  │ └ class: may keep its bytes. No line, or another class: it may not (see `Classification`)
//     │  └ whatever 66, F3 and F2 say
//     └ opcode; in this map after 0F
//
//     58 f3 ok (v)addss *Vx,Hx,Wd sse
//        │     │          │  └ a feature; the VEX form's is AVX
//        │     │          └ H, by VEX.vvvv, exists in the VEX form only
//        │     └ two forms: ADDSS with F3, and VADDSS with VEX.pp = 2; * is read and written in the first, written in
//        │       the second
//        └ F3 makes it this instruction; np and 66 have lines of their own
//
// `TableReader.swift` has the whole grammar. The letters are those of Intel SDM vol. 2, appendix A.2. The text is read
// once, when the first decoder is made (well under a millisecond), into `Form`s: 32 bits of mask and value over the
// bits that decide (`Key`), and what the line says. Decoding is then short, and the function below can be read in one
// go:
//
//  1. prefixes, by a table of 256;
//  2. the escape bytes or VEX, which give the map; one look-up by map and opcode says whether there is ModRM;
//  3. ModRM, SIB, displacement;
//  4. the key, compared with the opcode's forms in the order of their lines: the first that fits is the instruction,
//     and if none does, it is undefined;
//  5. widths, and the immediate by the form's kind;
//  6. what no mask can say: LOCK without a right to it, VEX behind a prefix that excludes it, registers that there
//     aren't.
//
// That is all a translator's scan needs. Operands and effects (`operand(at:)`, `memoryOperand`, `effects`) are worked
// out from the form when asked for.
//
// Two rules make it safe to feed it anything. Decoding never reads past a window of `window` bytes: if fewer are left,
// they are copied into one. And the verdict on an end that is missing comes last: whatever was found out with bytes
// that weren't there is dropped if the end lies past those that were.
//
// Where AMD's and Intel's processors differ, it is AMD's that is decoded, as the machine announces one: 66 makes a near
// branch 16 bits wide in 64-bit mode, REX.W doesn't widen far pointers, SYSENTER is undefined in 64-bit mode, PREFETCH
// takes no register. docs/decoder.md lists what that means beside the oracle, Zydis.

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

/// `DecodingResult` without the instruction.
public enum DecodingStatus: Sendable, BitwiseCopyable {
  case decoded, needsMoreBytes, tooLong
}

/// Decodes x86 code of one mode.
public struct Decoder: Sendable {
  /// The code that it decodes.
  public let mode: CPUMode
  let tables: OpcodeTables

  /// The architecture's limit, in bytes.
  public static let maximumLength = 15

  /// The first decoder of a program reads the table; every other costs nothing.
  public init(mode: CPUMode) {
    self.mode = mode
    tables = OpcodeTables.shared
  }

  /// Decodes the instruction at the start of `bytes`; what lies behind it is not looked at.
  public func decode(_ bytes: RawSpan) -> DecodingResult {
    bytes.withUnsafeBytes { decode($0) }
  }

  /// Decodes the instruction at the start of `bytes`; what lies behind it is not looked at.
  public func decode(_ bytes: UnsafeRawBufferPointer) -> DecodingResult {
    var instruction = Instruction(mode: mode)
    return switch decode(bytes, into: &instruction) {
    case .decoded: .instruction(instruction)
    case .needsMoreBytes: .needsMoreBytes
    case .tooLong: .tooLong
    }
  }

  /// The same for those in a hurry: decodes into a variable that is used again and again. Its contents mean something
  /// after `decoded` only.
  public func decode(_ bytes: UnsafeRawBufferPointer, into instruction: inout Instruction) -> DecodingStatus {
    if bytes.count >= Self.window, let base = bytes.baseAddress {
      return decode(window: base, limit: Self.maximumLength, into: &instruction)
    }
    return withUnsafeTemporaryAllocation(byteCount: Self.window, alignment: 8) { window in
      window.initializeMemory(as: UInt8.self, repeating: 0)
      window.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.maximumLength)))
      guard let base = window.baseAddress else { return .needsMoreBytes }
      let limit = min(bytes.count, Self.maximumLength)
      return decode(window: UnsafeRawPointer(base), limit: limit, into: &instruction)
    }
  }

  /// Decoding never looks at an offset past this: 14 prefixes, a 4-byte EVEX prefix, opcode, ModRM, SIB, 8 bytes of
  /// displacement or 4 and 8 of immediate, and 8 for reading those at once, rounded up. So inside a window of this size
  /// no read needs a check of its own, and the end of the bytes is checked once, at the end of the instruction.
  static let window = 48

  @inline(__always)
  private func decode(window: UnsafeRawPointer, limit: Int, into instruction: inout Instruction) -> DecodingStatus {
    instruction = Instruction(mode: mode)
    let end = decode(window, into: &instruction)
    if end > limit {
      return limit == Self.maximumLength ? .tooLong : .needsMoreBytes
    }
    instruction.length = UInt8(truncatingIfNeeded: end)
    return .decoded
  }

  /// Returns the offset of the first byte that isn't needed.
  private func decode(_ bytes: UnsafeRawPointer, into instruction: inout Instruction) -> Int {
    var offset = 0
    var byte = bytes.byte(0)

    // Prefixes, of which most instructions have none or a REX.
    let prefixKinds = tables.prefixKinds + (mode == .bits64 ? 256 : 0)
    var rex: UInt8 = 0
    while prefixKinds[Int(byte)] != .none {
      if prefixKinds[Int(byte)] == .rex {
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
        isListed = tables.slots[map * 256 + Int(byte)].head != 0
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
    if slot.head == 0 { return offset }
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
    var index = tables.heads[Int(slot.head) + (slot.isGroup ? Int(instruction.reg) : 0)]
    if index == 0 { return offset }
    var form = tables.forms + Int(index)
    while key & form.pointee.mask != form.pointee.value {
      index = form.pointee.next
      if index == 0 { return offset }
      form = tables.forms + Int(index)
    }
    let attributes = form.pointee.attributes
    instruction.form = index
    instruction.operation = form.pointee.operation
    instruction.attributes = attributes
    instruction.feature = form.pointee.feature
    instruction.classification = form.pointee.classification
    instruction.memorySpecification = form.pointee.memory

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
    let layout = tables.modRMLayouts[Int(modRM) + (instruction.addressSize == 2 ? 0 : 256)]
    var size = layout.displacementSize
    if layout.hasSIB {
      let sib = bytes.byte(offset)
      instruction.sib = sib
      instruction.sibOffset = UInt8(truncatingIfNeeded: offset)
      offset += 1
      if sib & 7 == 5, modRM < 0x40 { size = 4 }
    }
    if size == 0 { return offset }
    instruction.displacementOffset = UInt8(truncatingIfNeeded: offset)
    instruction.displacementSize = size
    instruction.displacement = bytes.signed(offset, size)
    return offset + Int(size)
  }

  @inline(__always)
  private func readImmediate(
    _ kind: Form.Immediate, _ bytes: UnsafeRawPointer, _ start: Int, into instruction: inout Instruction
  ) -> Int {
    let layout = tables.immediateLayouts[Int(kind.rawValue) * 4 + Int(instruction.operandSize >> 2)]
    let size = layout.size
    if kind == .directOffset {
      let size = instruction.addressSize
      instruction.displacementOffset = UInt8(truncatingIfNeeded: start)
      instruction.displacementSize = size
      instruction.displacement = bytes.unsigned(start, size)
      return start + Int(size)
    }
    instruction.immediateOffset = UInt8(truncatingIfNeeded: start)
    instruction.immediateSize = size
    instruction.immediate = layout.isSigned ? bytes.signed(start, size) : bytes.unsigned(start, size)
    if layout.second != 0 {
      instruction.secondImmediateSize = layout.second
      instruction.secondImmediate = UInt16(
        truncatingIfNeeded: bytes.unsigned(start + Int(size), layout.second))
    }
    return start + Int(size) + Int(layout.second)
  }
}

extension UnsafeRawPointer {
  @inline(__always)
  func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }

  /// The 1 to 8 bytes at `offset`, sign-extended. Eight are read.
  @inline(__always)
  func signed(_ offset: Int, _ size: UInt8) -> Int64 {
    let shift = Int64(64 &- Int(size) &* 8)
    return (loadUnaligned(fromByteOffset: offset, as: Int64.self) &<< shift) &>> shift
  }

  /// The same, zero-extended.
  @inline(__always)
  func unsigned(_ offset: Int, _ size: UInt8) -> Int64 {
    let shift = UInt64(64 &- Int(size) &* 8)
    return Int64(bitPattern: (loadUnaligned(fromByteOffset: offset, as: UInt64.self) &<< shift) &>> shift)
  }
}
