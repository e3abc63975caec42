// What translated code has noted of x87 instructions (`X87Code`) becomes the pointers that FNSTENV stores.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM

extension TranslatedProcessor {
  /// Takes over what translated code has noted.
  func settleX87Pointers() {
    let state = block.state
    let notes = X87Notes(
      instruction: state.pointee.x87_instruction_note, operand: state.pointee.x87_operand_note)
    state.pointee.x87_instruction_note = 0
    state.pointee.x87_operand_note = 0
    settle(notes, page: state.pointee.x87_page, operand: { _, _ in state.pointee.x87_operand })
  }

  /// Takes over what it was put off to note, when general registers are what they were then.
  func settleX87Pointers(_ notes: X87Notes) { settle(notes, page: block.state.pointee.page, operand: offset) }

  /// - Parameter page: what code for any linear address counts from.
  private func settle(_ notes: X87Notes, page: UInt64, operand: (MemoryOperand, UInt64) -> UInt64) {
    if notes.operand == X87Note.cleared {
      (x87Pointers.operand, x87Pointers.dataSelector) = (0, 0)
    } else if let note = store.translator.x87Note(notes.operand), let memory = note.memory {
      x87Pointers.operand = operand(memory, note.isRelative ? page &+ note.nextRIP : note.nextRIP)
      x87Pointers.dataSelector = selectors(of: note, data: memory.segment).data
    }
    if notes.instruction == X87Note.cleared {
      (x87Pointers.instruction, x87Pointers.codeSelector, x87Pointers.opcode) = (0, 0, 0)
    } else if let note = store.translator.x87Note(notes.instruction) {
      x87Pointers.instruction = note.isRelative ? page &+ note.rip : note.rip
      x87Pointers.opcode = note.opcode
      x87Pointers.codeSelector = selectors(of: note).code
    }
  }

  /// Selectors when the instruction ran. Where translated code has changed the privilege level since, by SYSCALL, SYSRET or IRET,
  /// those of CS and SS were the ones that STAR names.
  private func selectors(of note: X87Note, data: SegmentRegister = .ds) -> (code: UInt16, data: UInt16) {
    if note.isUser == (cpl == 3) { return (system.cs.selector, segment(data).selector) }
    let segments = note.isUser ? control.returnSegments : control.callSegments
    return (segments.code.selector, data == .ss ? segments.stack.selector : segment(data).selector)
  }
}
