// Instructions that a helper carries out in the middle of translated code (helpers.c).
//
// The block says which and goes to `cws_call`, which puts the guest's general registers into the state block, leaves the
// vector registers where they are, and comes back. What the helper does not do leaves the block as a call-out, or, where
// the instruction is done and only the block behind it is not known, at no site of its own.

import TrivisorCWorldSwitch
import TrivisorInstructionSet

enum HelperCode {
  private static func areUsed(_ block: borrowing BlockEmitter) -> Bool {
    block.is64 && !block.mode.isSingleStepping && !block.mode.checksAccesses && !block.tracesSensitive
  }

  /// SYSCALL, SYSRET and IRET with 64-bit operands, STAC and CLAC.
  /// - Returns: whether the instruction was written; the block ends with it.
  static func modeChange(_ instruction: Instruction, _ block: inout BlockEmitter) -> Bool {
    guard areUsed(block), instruction.encoding == .legacy else { return false }
    let mode = block.mode
    let helper: UInt32
    switch instruction.operation {
    case .syscall where mode.isUser: helper = CWS_HELP_SYSTEM_CALL
    case .sysret where mode.isKernel && instruction.rexW: helper = CWS_HELP_SYSTEM_RETURN
    case .iret where mode.isKernel && mode.view == 1 && instruction.operandSize == 8:
      helper = CWS_HELP_INTERRUPT_RETURN
    case .stac where mode.isKernel: helper = CWS_HELP_SET_ACCESS
    case .clac where mode.isKernel: helper = CWS_HELP_CLEAR_ACCESS
    default: return false
    }
    block.requireSavedFlags()
    block.loadCodeAddress(Host.t1, block.nextRIP)
    block.code.store(Host.t1, .state(StateLayout.rip))
    call(helper, instruction, &block)
    return true
  }

  /// MOVS and STOS in 64-bit mode, repeated or not, but for a source by FS or GS.
  static func string(_ instruction: Instruction, _ block: inout BlockEmitter) -> Bool {
    guard areUsed(block), instruction.addressSize == 8 else { return false }
    if let segment = instruction.segmentOverride, segment == .fs || segment == .gs { return false }
    let size = instruction.opcode & 1 == 0 ? 1 : instruction.operandSize
    let which = instruction.operation == .movs ? CWS_HELP_MOVE_STRING : CWS_HELP_STORE_STRING
    block.requireSavedFlags()
    call(
      which | UInt32(size.trailingZeroBitCount) << 8 | (instruction.isRepeated ? 1 << 16 : 0)
        | UInt32(block.mode.view) << 24,
      instruction, &block)
    block.flags = [.host, .rax]
    return true
  }

  /// POPF of 64 bits.
  static func popFlags(_ instruction: Instruction, _ block: inout BlockEmitter) -> Bool {
    let mode = block.mode
    guard areUsed(block), instruction.operandSize == 8, mode.isUser || mode.isKernel else { return false }
    block.requireSavedFlags()
    call(CWS_HELP_POP_FLAGS | (mode.isUser ? 1 << 16 : 0) | UInt32(mode.view) << 24, instruction, &block)
    block.flags = [.host, .rax]
    return true
  }

  /// XSAVE, XSAVEOPT and XRSTOR.
  /// - Throws: `Refusal`, naming what stands in the way.
  static func extendedState(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) -> Bool {
    let mode = block.mode
    guard areUsed(block), mode.hasAVX, !mode.taskSwitched, let memory = instruction.memoryOperand else { return false }
    let which = instruction.operation == .xrstor ? CWS_HELP_RESTORE_EXTENDED : CWS_HELP_SAVE_EXTENDED
    block.requireSavedFlags()
    try AccessCode.address(memory, &block)
    block.code.store(Host.t1, .state(StateLayout.address))
    call(which | UInt32(mode.view) << 24, instruction, &block)
    block.flags = [.host, .rax]
    return true
  }

  /// The flags must be in RAX, and are in both places behind it.
  private static func call(_ helper: UInt32, _ instruction: Instruction, _ block: inout BlockEmitter) {
    block.code.storeConstant32(helper, .state(StateLayout.helper))
    let kind = block.records.callOut(instruction)
    block.code.storeConstant32(
      UInt32(truncatingIfNeeded: block.addSite(kind, rip: block.rip)), .state(StateLayout.site))
    let back = block.code.loadCodeAddress()
    block.code.jump(.state(StateLayout.call))
    back.patch(to: block.code.address)
  }
}
