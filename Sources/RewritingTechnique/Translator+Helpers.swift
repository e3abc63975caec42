// Instructions that a helper carries out in the middle of translated code (helpers.c).
//
// The block says which and goes to `cws_call`, which puts the guest's general registers into the state block, leaves the
// vector registers where they are, and comes back. What the helper does not do leaves the block as a call-out, or, where
// the instruction is done and only the block behind it is not known, at no site of its own.

import CWorldSwitch
import InstructionSet

extension Translator {
  private var usesHelpers: Bool { is64 && !mode.isSingleStepping && !mode.checksAccesses && !tracesSensitive }

  /// SYSCALL, SYSRET and IRET with 64-bit operands, STAC and CLAC.
  /// - Returns: whether the instruction was written; the block ends with it.
  func translateModeChange(_ instruction: Instruction) -> Bool {
    guard usesHelpers, instruction.encoding == .legacy else { return false }
    let helper: UInt32
    switch (instruction.opcodeMap, instruction.opcode) {
    case (Instruction.OpcodeMap.escape0F, 0x05) where mode.isUser: helper = CWS_HELP_SYSTEM_CALL
    case (Instruction.OpcodeMap.escape0F, 0x07) where mode.isKernel && instruction.rexW: helper = CWS_HELP_SYSTEM_RETURN
    case (Instruction.OpcodeMap.oneByte, 0xcf) where mode.isKernel && mode.view == 1 && instruction.operandSize == 8:
      helper = CWS_HELP_INTERRUPT_RETURN
    case (Instruction.OpcodeMap.escape0F, 0x01) where mode.isKernel && instruction.modRM == 0xcb:
      helper = CWS_HELP_SET_ACCESS
    case (Instruction.OpcodeMap.escape0F, 0x01) where mode.isKernel && instruction.modRM == 0xca:
      helper = CWS_HELP_CLEAR_ACCESS
    default: return false
    }
    requireSavedFlags()
    emitter.loadConstant(Host.t1, nextRIP)
    emitter.store(Host.t1, .state(StateLayout.rip))
    emitHelp(helper, instruction)
    return true
  }

  /// MOVS and STOS in 64-bit mode, repeated or not, but for a source by FS or GS.
  func translateString(_ instruction: Instruction) -> Bool {
    guard usesHelpers, instruction.addressSize == 8 else { return false }
    if let segment = instruction.segmentOverride, segment == .fs || segment == .gs { return false }
    let size = instruction.opcode & 1 == 0 ? 1 : instruction.operandSize
    let which = instruction.opcode < 0xaa ? CWS_HELP_MOVE_STRING : CWS_HELP_STORE_STRING
    requireSavedFlags()
    emitHelp(
      which | UInt32(size.trailingZeroBitCount) << 8 | (instruction.isRepeated ? 1 << 16 : 0) | UInt32(mode.view) << 24,
      instruction)
    flags = [.host, .rax]
    return true
  }

  /// POPF of 64 bits.
  func translatePopFlags(_ instruction: Instruction) -> Bool {
    guard usesHelpers, instruction.operandSize == 8, mode.isUser || mode.isKernel else { return false }
    requireSavedFlags()
    emitHelp(CWS_HELP_POP_FLAGS | (mode.isUser ? 1 << 16 : 0) | UInt32(mode.view) << 24, instruction)
    flags = [.host, .rax]
    return true
  }

  /// The flags must be in RAX, and are in both places behind it.
  private func emitHelp(_ helper: UInt32, _ instruction: Instruction) {
    emitter.storeConstant32(helper, .state(StateLayout.helper))
    emitter.storeConstant32(
      UInt32(truncatingIfNeeded: addSite(callOut(instruction), rip: rip)), .state(StateLayout.site))
    emitter.byte(0x4c)  // lea disp(%rip), T2
    emitter.byte(0x8d)
    emitter.byte(0x3d)
    emitter.word32(0)
    let operand = emitter.address &- 4
    emitter.jump(.state(StateLayout.call))
    cache.patch(cache.offset(operand), to: emitter.address)
  }

  /// CLD and STD: the guest's direction flag is never in the host's.
  func emitDirection(_ instruction: Instruction) {
    requireSavedFlags()
    if instruction.opcode == 0xfc {
      emitter.legacy(w: true, 0x81, reg: 4, .state(StateLayout.systemFlags))  // and
      emitter.word32(~0x400)
    } else {
      emitter.legacy(w: true, 0x81, reg: 1, .state(StateLayout.systemFlags))  // or
      emitter.word32(0x400)
    }
    flags = .rax
  }
}
