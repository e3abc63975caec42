import TrivisorInstructionSet
import Testing

/// Where there is nothing to compare with: our own rules, AMD's choices, and the ends of the input.
@Suite("Decoder")
struct DecoderTests {
  private func decode(_ bytes: [UInt8], _ mode: CPUMode = .bits64) -> Instruction? {
    let result = bytes.withUnsafeBytes { Decoder(mode: mode).decode($0) }
    if case .instruction(let instruction) = result { return instruction } else { return nil }
  }

  @Test("every line of the table can be read") func tableIsReadable() {
    #expect(Decoder.unreadableLines == [])
    #expect(Decoder.formCount > 1500)
  }

  @Test("every operation has its case's name, and every line of the table an operation of its mnemonic")
  func operations() {
    let words = Decoder.operationWords.split(separator: " ").map(String.init)
    #expect(words == Operation.allCases.map { "\($0)" })
    let widths = ["ins", "outs", "movs", "cmps", "stos", "lods", "scas"]
    let names = ["movFrom", "movTo", "push", "pop"]
    for form in 1..<Decoder.formCount {
      let (operation, mnemonic) = Decoder.formOperation(form)
      let name = "\(operation)"
      let isSame =
        name == mnemonic || mnemonic.hasSuffix("CC") && mnemonic.dropLast(2) == name.dropLast(2)
        || widths.contains(name) && mnemonic == name + "b"
        || names.contains { name.hasPrefix($0) } && ["mov", "push", "pop"].contains(mnemonic)
      #expect(isSame, "\(mnemonic) is \(name)")
    }
  }

  @Test(
    "moves of system registers are operations of their own",
    arguments: [
      ([0x0f, 0x20, 0xc0], Operation.movFromControl), ([0x0f, 0x22, 0xc0], .movToControl),
      ([0x0f, 0x21, 0xc0], .movFromDebug), ([0x0f, 0x23, 0xc0], .movToDebug), ([0x8c, 0xd8], .movFromSegment),
      ([0x8e, 0xd8], .movToSegment), ([0x0f, 0xa0], .pushSegment), ([0x0f, 0xa9], .popSegment), ([0x89, 0xc0], .mov),
      ([0xf3, 0xa4], .movs), ([0xa5], .movs), ([0x0f, 0x84, 0, 0, 0, 0], .jcc), ([0x74, 0], .jcc),
      ([0x0f, 0x94, 0xc0], .setcc), ([0x0f, 0x44, 0xc0], .cmovcc), ([0xc5, 0xfb, 0x58, 0xc1], .addsd),
      ([0xf2, 0x0f, 0x58, 0xc1], .addsd), ([0xf2, 0x0f, 0x10, 0xc1], .movsd), ([0xe4, 0], .in),
    ] as [([UInt8], Operation)])
  func operationsOfSystemRegisters(_ bytes: [UInt8], _ operation: Operation) {
    #expect(decode(bytes)?.operation == operation)
  }

  @Test("each proper beginning of an instruction needs more bytes, and nothing behind its end matters")
  func truncation() {
    var random = FixedSequence(state: 3)
    for mode in CPUMode.allCases {
      let decoder = Decoder(mode: mode)
      withUnsafeTemporaryAllocation(byteCount: 48, alignment: 8) { buffer in
        for _ in 0..<(Effort.isFull ? 300_000 : 5_000) {
          random.fill(buffer)
          let bytes = UnsafeRawBufferPointer(buffer)
          guard case .instruction(let whole) = decoder.decode(bytes), whole.classification != .undefined else {
            continue
          }
          let length = Int(whole.length)
          for count in 0..<length {
            guard case .needsMoreBytes = decoder.decode(UnsafeRawBufferPointer(rebasing: bytes[..<count])) else {
              Issue.record("\(whole.mnemonic) of \(length) bytes cut to \(count)")
              return
            }
          }
          guard case .instruction(let exact) = decoder.decode(UnsafeRawBufferPointer(rebasing: bytes[..<length])) else {
            Issue.record("\(whole.mnemonic) of \(length) bytes alone")
            return
          }
          if exact.length != whole.length || exact.form != whole.form {
            Issue.record("\(whole.mnemonic) differs alone")
          }
        }
      }
    }
  }

  @Test("fifteen bytes are the limit") func tooLong() {
    let decoder = Decoder(mode: .bits64)
    let fourteen = [UInt8](repeating: 0x66, count: 14)
    #expect(decode(fourteen + [0x90])?.length == 15)
    for bytes in [fourteen + [0x66, 0x90], fourteen + [0x0f, 0x1f], fourteen + [0x81, 0xc0, 0, 0]] {
      let result = bytes.withUnsafeBytes { decoder.decode($0) }
      guard case .tooLong = result else {
        Issue.record("\(bytes): \(result)")
        continue
      }
    }
  }

  @Test("the parts of an instruction cover its bytes") func parts() throws {
    // lock cmpxchg [r12 + r9*8 + 0x12345678], rax
    let instruction = try #require(decode([0xf0, 0x4b, 0x0f, 0xb1, 0x84, 0xcc, 0x78, 0x56, 0x34, 0x12]))
    #expect(instruction.mnemonic == "cmpxchg")
    #expect(instruction.prefixes == [.lock, .rex])
    #expect(instruction.opcodeOffset == 3)
    #expect(instruction.modRMOffset == 4)
    #expect(instruction.sibOffset == 5)
    #expect(instruction.displacementOffset == 6)
    #expect(instruction.displacementSize == 4)
    #expect(instruction.operandSize == 8)
    let memory = try #require(instruction.memoryOperand)
    #expect(memory.base == .r12)
    #expect(memory.index == .r9)
    #expect(memory.scale == 8)
    #expect(memory.displacement == 0x1234_5678)
    #expect(memory.segment == .ds)
    #expect(memory.access == [.read, .conditionalWrite])
    #expect(memory.size == 8)
  }

  @Test("a register is overwritten only if nothing of it is left") func overwriting() throws {
    func use(_ bytes: [UInt8]) throws -> RegisterUse { try #require(decode(bytes)).effects.general }
    let rcx = RegisterSet(number: 1)
    #expect(try use([0x89, 0xc1]).overwritten == rcx)  // mov ecx, eax
    #expect(try use([0x66, 0x89, 0xc1]).overwritten == [])  // mov cx, ax
    #expect(try use([0x66, 0x89, 0xc1]).written == rcx)
    #expect(try use([0x88, 0xc1]).overwritten == [])  // mov cl, al
    #expect(try use([0x88, 0xe5]).written == rcx)  // mov ch, ah
    #expect(try use([0x0f, 0x44, 0xc8]).overwritten == [])  // cmovz ecx, eax
    #expect(try use([0xf3, 0xa4]).written == RegisterSet(rawValue: 0b1100_0010))  // rep movsb
    #expect(try use([0xf3, 0xa4]).overwritten == [])
  }

  @Test("flags that a count of zero keeps are conditional") func conditionalFlags() throws {
    #expect(try #require(decode([0xd3, 0xe0])).effects.flags.isConditional)  // shl eax, cl
    #expect(try !#require(decode([0xd1, 0xe0])).effects.flags.isConditional)  // shl eax, 1
    #expect(try #require(decode([0xf3, 0xa6])).effects.flags.isConditional)  // repe cmpsb
    #expect(try !#require(decode([0xa6])).effects.flags.isConditional)
  }

  @Test("AMD's choices") func amd() throws {
    // 66 makes near branches 16 bits wide, in 64-bit mode too.
    #expect(decode([0x66, 0xe8, 1, 2, 3, 4])?.length == 4)
    #expect(decode([0x66, 0xff, 0x20])?.memoryOperand?.size == 2)
    // REX.W doesn't widen far pointers.
    #expect(decode([0x48, 0x0f, 0xb5, 0x08])?.memoryOperand?.size == 6)
    #expect(decode([0x48, 0xff, 0x28])?.memoryOperand?.size == 6)
    #expect(decode([0x0f, 0x34])?.classification == .undefined)
    #expect(decode([0x0f, 0x34], .bits32)?.classification == .systemCall)
    #expect(decode([0xf3, 0x41, 0x90])?.mnemonic == "xchg")
    #expect(decode([0x0f, 0x0d, 0xc0])?.classification == .undefined)
  }

  @Test("NOPs of other extensions are NOPs and touch no memory") func nops() throws {
    for bytes in [[0xf3, 0x0f, 0x1e, 0xfa], [0xf3, 0x48, 0x0f, 0x1e, 0xc8], [0x0f, 0x1f, 0x00]] as [[UInt8]] {
      let instruction = try #require(decode(bytes))
      #expect(instruction.classification == .innocuous)
      #expect(instruction.mnemonic == "nop")
      #expect((instruction.memoryOperand?.size ?? 0) == 0)
    }
  }

  @Test("what has no encoding in 64-bit code is never innocuous elsewhere") func legacyOnly() {
    for opcode in UInt8.min...UInt8.max {
      let bytes = [opcode, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0]
      guard let there = decode(bytes, .bits32), there.classification == .innocuous else { continue }
      #expect(decode(bytes)?.classification != .undefined, "\(there.mnemonic)")
    }
  }

  @Test("a decoder takes spans") func span() {
    let bytes: [UInt8] = [0x90]
    if case .instruction(let instruction) = Decoder(mode: .bits64).decode(bytes.span.bytes) {
      #expect(instruction.mnemonic == "nop")
    } else {
      Issue.record("not decoded")
    }
  }
}
