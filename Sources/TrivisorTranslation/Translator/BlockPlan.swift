// What a block will be, before any of it is written: a value that can be made, looked at and compared without a processor.
//
//     bytes ─▶ instructions, with further rounds of a short loop ─▶ accesses that share a check
//
// A block ends at a control transfer, at a page's end, or after 32 instructions. How long flags and registers live in it is
// worked out from the plan when the emitter asks (`BlockPlan+Flags`).

import TrivisorInstructionSet
import TrivisorX86

/// An instruction of a block, and what it does.
struct PlannedInstruction {
  let instruction: Instruction
  /// Lives as long as the block is in the making.
  let template: UnsafePointer<InstructionTemplate>
  /// From the block's first byte.
  let offset: Int
  /// A jump to the loop's head, whose next round follows (`BlockPlan+Loops`).
  var goesRound = false

  var end: Int { offset + Int(instruction.length) }
  @inline(__always) var effects: InstructionUse { template.pointee.effects }
}

/// The instructions of a block and what they have in common.
///
/// One value serves for block after block, because its lists keep their memory; it is never copied.
struct BlockPlan: ~Copyable {
  /// What follows the last instruction if it does not end the block itself: more code, or an instruction that is too long.
  /// `breakpoint` is where a block has no instruction, since a debugger's breakpoint is at its first one.
  enum Ending { case cut, tooLong, breakpoint }

  static let instructionLimit = 32

  private(set) var key = BlockKey(page: 0, secondPage: .max, rip: 0, mode: 0)
  private(set) var mode = CodeMode.reset
  private(set) var instructions = ScratchList<PlannedInstruction>()
  private(set) var ending = Ending.cut
  /// Accesses that one check serves, and for each instruction which.
  var groups = ScratchList<SharedCheck>()
  var shares = ScratchList<Share?>()
  /// What `planSharing` works with.
  var active = ScratchList<ActiveStream>()

  /// Plans what begins in `bytes`, which end at a page's end or, for a straddling instruction, behind it.
  /// - Parameter breakpoints: what is run by itself is not planned around them.
  /// - Returns: `false` if the first instruction needs more bytes.
  mutating func prepare(
    _ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode, decoder: Decoder,
    templates: inout TemplateTable, breakpoints: PlannedBreakpoints = .none
  ) -> Bool {
    templates.makeRoom()
    self.key = key
    self.mode = mode
    instructions.removeAll()
    groups.removeAll()
    shares.removeAll()
    let limit = mode.isSingleStepping || key.variant == .bouncing ? 1 : Self.instructionLimit
    let breakpoints = mode.isSingleStepping ? .none : breakpoints
    guard let ending = decode(bytes, decoder, limit: limit, &templates, breakpoints) else {
      return false
    }
    self.ending = ending
    planSharing()
    return true
  }

  var is64: Bool { mode.bits == .bits64 }

  /// RIP in the mode's width. Without a branch, IP of 16 bits goes on into EIP's upper half, where CS ends as a rule.
  func rip(at offset: Int) -> UInt64 {
    let value = key.rip &+ UInt64(offset)
    return is64 ? value : value & 0xffff_ffff
  }

  /// Whether a jump to `target` can be patched to go there: it is in the page, and not so near its end that it may straddle
  /// it.
  func isLinked(to target: UInt64) -> Bool {
    let linear = key.linear(target)
    let isPossible = mode.isRelative || !is64 || LinearAddress.isCanonical(target)
    return !mode.isSingleStepping && key.isFlat && target <= key.limit && isPossible
      && linear >> 12 == key.linear(key.rip) >> 12
      && linear & 4095 <= 4096 - UInt64(Decoder.maximumLength) && !key.isStraddling
  }

  /// Appends one more round of the loop that `body` is.
  mutating func append(round body: Range<Int>) {
    instructions[instructions.count - 1].goesRound = true
    for index in body {
      var element = instructions[index]
      element.goesRound = false
      instructions.append(element)
    }
  }

  private mutating func decode(
    _ bytes: UnsafeRawBufferPointer, _ decoder: Decoder, limit: Int, _ templates: inout TemplateTable,
    _ breakpoints: PlannedBreakpoints
  ) -> Ending? {
    var instruction = Instruction(mode: mode.bits)
    var offset = 0
    while instructions.count < limit {
      if !breakpoints.isEmpty, breakpoints.holds(key, mode, offset: offset) {
        return instructions.isEmpty ? .breakpoint : .cut
      }
      let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
      switch rest.isEmpty ? .needsMoreBytes : decoder.decode(rest, into: &instruction) {
      case .needsMoreBytes: return instructions.isEmpty ? nil : .cut
      case .tooLong: return .tooLong
      case .decoded:
        instructions.append(
          PlannedInstruction(
            instruction: instruction, template: templates.template(of: instruction), offset: offset))
        offset += Int(instruction.length)
        if instruction.classification == .conditionalJump { planRounds() }
        if instruction.classification.isControlTransfer || instruction.classification == .undefined { return .cut }
      }
    }
    return .cut
  }
}
