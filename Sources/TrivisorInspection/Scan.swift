// The scan: every executable section from its first byte to its last, one instruction after the other, as a disassembler
// sweeps it.
//
// A rewriter scans as it goes: from an entry point along the branches, and only what is executed. That finds no data in
// the middle of code, but it needs a run. A sweep sees everything, data in text included; where a byte begins no
// instruction, it goes on with the next byte. Both meet the same instructions in what compilers make, because they keep
// data out of text; hand-written tables in it give the sweep a few that nobody executes.

import TrivisorInstructionSet

/// A run of code.
public struct CodeRegion: Sendable {
  /// Its section's name, or what it is.
  public let name: String
  /// Where it runs, as the image says.
  public let address: UInt64
  /// How it is decoded.
  public let mode: CPUMode
  /// Where its bytes are in the image.
  let range: Range<Int>

  /// In bytes.
  public var size: Int { range.count }
}

/// One kind of instruction and where it was found.
public struct Finding: Sendable {
  /// As `InstructionName` has it.
  public let name: String
  /// What it does in user mode.
  public let character: InstructionCharacter
  /// What each technique makes of it.
  public let treatment: Treatment
  /// In the order of the image.
  public internal(set) var addresses: [UInt64]
}

/// What a sweep over code found.
struct Scan {
  private(set) var findings: [Finding] = []
  private(set) var instructionCount = 0
  private(set) var undefinedCount = 0
  /// Which finding it is, by line of the opcode table and ModRM.reg with its extension: what the name depends on.
  private var indices: [UInt32: Int] = [:]
  /// The last key and its finding: padding is one instruction many times over.
  private var last: (key: UInt32, index: Int)?

  /// Sweeps over one region.
  mutating func sweep(_ region: CodeRegion, of bytes: [UInt8]) {
    let decoder = Decoder(mode: region.mode)
    var instruction = Instruction(mode: region.mode)
    bytes.withUnsafeBytes { image in
      let code = UnsafeRawBufferPointer(rebasing: image[region.range])
      var position = 0
      while position < code.count {
        let rest = UnsafeRawBufferPointer(rebasing: code[position...])
        let status = decoder.decode(rest, into: &instruction)
        guard case .decoded = status, instruction.classification != .undefined else {
          undefinedCount += 1
          position += Self.undefinedLength(status, instruction)
          continue
        }
        instructionCount += 1
        if Self.isOfInterest(instruction.classification) {
          note(instruction, at: region.address &+ UInt64(position))
        }
        position += max(Int(instruction.length), 1)
      }
    }
  }

  private mutating func note(_ instruction: Instruction, at address: UInt64) {
    let key = UInt32(instruction.form) << 8 | UInt32(instruction.reg) | UInt32(instruction.rex & 4) << 1
    let index: Int
    if let last, last.key == key {
      index = last.index
    } else {
      index = indices[key] ?? newFinding(instruction, key)
      last = (key, index)
    }
    findings[index].addresses.append(address)
  }

  /// The finding for an instruction whose key is new.
  private mutating func newFinding(_ instruction: Instruction, _ key: UInt32) -> Int {
    let name = InstructionName.of(instruction)
    let index: Int
    if let known = findings.firstIndex(where: { $0.name == name }) {
      index = known
    } else {
      let character = InstructionCharacter.of(instruction)
      findings.append(
        Finding(name: name, character: character, treatment: character.treatment(of: instruction), addresses: []))
      index = findings.count - 1
    }
    indices[key] = index
    return index
  }

  private static func isOfInterest(_ classification: Classification) -> Bool {
    switch classification {
    case .privileged, .sensitive, .farJump, .farCall, .farReturn, .interruptReturn, .softwareInterrupt, .systemCall:
      true
    default: false
    }
  }

  /// How far to go on from something that is no instruction to us: over what is known but not supported (AVX-512, mask registers, UD2),
  /// and one byte where nothing is known.
  private static func undefinedLength(_ status: DecodingStatus, _ instruction: Instruction) -> Int {
    guard case .decoded = status else { return 1 }
    let isKnown =
      instruction.form != 0 || instruction.encoding != .legacy
      || instruction.opcodeMap == Instruction.OpcodeMap.threeDNow
    return isKnown ? max(Int(instruction.length), 1) : 1
  }
}
