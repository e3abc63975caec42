// Where the last x87 instruction was.
//
// FNSTENV and FXSAVE store its address, its opcode and the address of its operand. The host's own are addresses of this process,
// so x87 instructions leave a number in the state block (`X87Note`), and one with an operand in memory its offset; Swift makes
// addresses of them when translated code has been left (`X87PointerSettlement`).
//
// Of instructions in a row, the last one does so for all. Where the block is left in the middle of the row, because an operand is not
// in the TLB, the cold part does; for a fault of the host, its record tells (`FaultRange`). General registers stay as they are in a
// row, so the address of an operand can be made as well later.
//
// Which instructions count was seen on a Zen 4, encoding by encoding; MMX instructions don't.

import TrivisorCWorldSwitch
import TrivisorInstructionSet

/// What the processor's pointers will say of an x87 instruction.
struct X87Note {
  /// A number that says: FNINIT, all are 0.
  static let cleared = CWS_X87_CLEARED
  static let first: UInt32 = 2

  /// As a site's, and behind the instruction.
  let rip: UInt64
  let nextRIP: UInt64
  /// They count from the page that the code was on.
  let isRelative: Bool
  /// Three bits of the opcode and ModRM.
  let opcode: UInt16
  let memory: MemoryOperand?
  let isUser: Bool
}

/// Numbers of notes; 0 for none.
struct X87Notes {
  /// Of the last instruction, and of the last one with an operand in memory.
  var instruction: UInt32 = 0
  var operand: UInt32 = 0

  var isEmpty: Bool { instruction == 0 && operand == 0 }
}

enum X87Code {
  /// Behind the instruction, in the main line or in a cold part. Clobbers T1, T2 and the resident range, but no flags.
  static func note(_ instruction: Instruction, index: Int, _ block: inout BlockEmitter) {
    guard instruction.feature == .x87 else { return }
    if instruction.operation == .fninit {
      block.code.storeConstant32(X87Note.cleared, .state(StateLayout.x87InstructionNote))
      block.code.storeConstant32(X87Note.cleared, .state(StateLayout.x87OperandNote))
      return
    }
    guard instruction.movesX87Pointers else { return }
    let number = block.records.add(
      X87Note(
        rip: block.rip, nextRIP: block.nextRIP, isRelative: block.mode.isRelative,
        opcode: UInt16(instruction.opcode & 7) << 8 | UInt16(instruction.modRM),
        memory: instruction.memoryOperand, isUser: block.mode.isUser))
    // In a cold part, the instruction is alone.
    let isInRow = index == block.position
    var notes = isInRow ? block.elidedX87Notes : X87Notes()
    notes.instruction = number
    if instruction.memoryOperand != nil { notes.operand = number }
    if isInRow, continues(at: index + 1, block) {
      block.elidedX87Notes = notes
      return
    }
    if isInRow { block.elidedX87Notes = X87Notes() }
    write(notes, &block)
  }

  /// Leaves notes in the state block. Clobbers T2, and T1 if they name an operand, and no flags.
  static func write(_ notes: X87Notes, _ block: inout BlockEmitter) {
    if notes.operand != 0 { noteOperand(notes.operand, &block) }
    if notes.instruction != 0 {
      if block.mode.isRelative {
        block.code.load(Host.t2, .state(StateLayout.page))
        block.code.store(Host.t2, .state(StateLayout.x87Page))
      }
      block.code.storeConstant32(notes.instruction, .state(StateLayout.x87InstructionNote))
    }
  }

  private static func noteOperand(_ number: UInt32, _ block: inout BlockEmitter) {
    guard let note = block.records.x87Note(number), let memory = note.memory else { return }
    let (rip, nextRIP) = (block.rip, block.nextRIP)
    block.begin(rip: rip, next: note.nextRIP, keepsShadow: true)
    defer { block.begin(rip: rip, next: nextRIP, keepsShadow: true) }
    do throws(Refusal) {
      try AccessCode.offset(memory, &block)
    } catch {
      // The instruction's own access would have been refused.
      return
    }
    block.resident = nil
    block.code.store(Host.t1, .state(StateLayout.x87Operand))
    block.code.storeConstant32(number, .state(StateLayout.x87OperandNote))
  }

  /// Whether a row goes on with an instruction of the plan.
  private static func continues(at index: Int, _ block: borrowing BlockEmitter) -> Bool {
    guard index < block.plan.instructions.count else { return false }
    let instruction = block.plan.instructions[index].instruction
    // Outside 64-bit mode, a segment's limit is checked before the TLB is asked.
    return instruction.classification == .innocuous && instruction.movesX87Pointers
      && (block.is64 || !instruction.hasModRMMemory)
  }
}

extension Instruction {
  /// What the x87 instruction and operand pointers are about: none of the control instructions.
  var movesX87Pointers: Bool {
    guard feature == .x87 else { return false }
    switch operation {
    case .fwait, .fldcw, .fldenv, .fnclex, .fninit, .fnsave, .fnstcw, .fnstenv, .fnstsw, .frstor, .feni8087_nop,
      .fdisi8087_nop, .fsetpm287_nop:
      return false
    default: return true
    }
  }
}
