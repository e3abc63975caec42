// What translated code has noted of x87 instructions (`X87Code`) becomes the pointers that FNSTENV stores.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM

/// The way from notes of translated code to x87 pointers.
struct X87PointerSettlement {
  private let processor: TranslatedProcessor

  init(of processor: TranslatedProcessor) { self.processor = processor }

  /// Takes over what translated code has noted.
  func settle() {
    let state = processor.block.state
    let notes = X87Notes(
      instruction: state.pointee.x87_instruction_note, operand: state.pointee.x87_operand_note)
    state.pointee.x87_instruction_note = 0
    state.pointee.x87_operand_note = 0
    settle(notes, page: state.pointee.x87_page, operand: { _, _ in state.pointee.x87_operand })
  }

  /// Takes over what it was put off to note, when general registers are what they were then.
  func settle(_ notes: X87Notes) {
    settle(notes, page: processor.block.state.pointee.page, operand: processor.offset)
  }

  /// - Parameter page: what code for any linear address counts from.
  private func settle(_ notes: X87Notes, page: UInt64, operand: (MemoryOperand, UInt64) -> UInt64) {
    let translator = processor.store.translator
    var pointers = processor.x87Pointers
    defer { processor.x87Pointers = pointers }
    if notes.operand == X87Note.cleared {
      (pointers.operand, pointers.dataSelector) = (0, 0)
    } else if let note = translator.x87Note(notes.operand), let memory = note.memory {
      pointers.operand = operand(memory, note.isRelative ? page &+ note.nextRIP : note.nextRIP)
      pointers.dataSelector = selectors(of: note, data: memory.segment).data
    }
    if notes.instruction == X87Note.cleared {
      (pointers.instruction, pointers.codeSelector, pointers.opcode) = (0, 0, 0)
    } else if let note = translator.x87Note(notes.instruction) {
      pointers.instruction = note.isRelative ? page &+ note.rip : note.rip
      pointers.opcode = note.opcode
      pointers.codeSelector = selectors(of: note).code
    }
  }

  /// Selectors when the instruction ran. Where translated code has changed the privilege level since, by SYSCALL, SYSRET or IRET,
  /// those of CS and SS were the ones that STAR names.
  private func selectors(of note: X87Note, data: SegmentRegister = .ds) -> (code: UInt16, data: UInt16) {
    let control = processor.control
    func selector(_ register: SegmentRegister) -> UInt16 { control.segment(register).selector }
    if note.isUser == (control.privilege == 3) { return (selector(.cs), selector(data)) }
    let segments = note.isUser ? control.returnSegments : control.callSegments
    return (segments.code.selector, data == .ss ? segments.stack.selector : selector(data))
  }
}
