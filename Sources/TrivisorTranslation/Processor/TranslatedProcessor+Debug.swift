// Single steps and breakpoint registers (AMD64 APM vol. 2, 13.1).
//
// While the trap flag, a breakpoint or the recording of branches is on, each block is one instruction and comes back to
// Swift, and while a breakpoint is on, the view of the TLB is one that is always empty: so every instruction and every
// access can be looked at.
//
// The resume flag counts for one instruction: it is looked at and cleared when that begins. IRET sets it, and so does a
// repeated instruction between its rounds.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor {
  /// Before an instruction.
  func beginStep() throws(Interruption) {
    isResuming = control.flags.contains(.resume)
    control.flags.remove(.resume)
    branchRecord.hasBranched = false
    // MOV SS holds back what its own operand has hit.
    let isHeld = shadow == .everything
    if !isHeld { accessHits = [] }
    guard control.hasBreakpoints, !isResuming else { return }
    // It does not hold back a breakpoint on the next instruction: AMD's processors differ there from Intel's.
    let found = debug.hits(linearRIP, count: 1, .execution)
    guard !found.isEmpty else { return }
    let held = accessHits
    accessHits = []
    throw .exception(debugTrap(found.union(held)))
  }

  /// After one that completed, or after one round of a repeated one. `isTrapping` is decided by RFLAGS.TF as it was before
  /// the instruction; but for SYSCALL and SYSRET by what they have made of it, which their emulation has noted. (Seen on a
  /// Zen 4: POPF and IRET that clear TF trap, those that set it don't; Linux' entry code relies on the other two.)
  func finishStep() throws(Interruption) {
    guard shadow != .everything else { return }
    let found = accessHits
    accessHits = []
    let steps = isTrapping && (!branchRecord.stepsBranches || branchRecord.hasBranched)
    guard steps || !found.isEmpty else { return }
    throw .exception(debugTrap(steps ? found.union(.singleStep) : found))
  }

  /// What #DB switches off, so that its handler is left alone: general detect, and the recording and stepping of branches.
  func enterDebugHandler() {
    debug.dr7 &= ~DR7.generalDetect.rawValue
    branchRecord.switchOff()
  }

  /// The instruction at `source` has branched.
  func noteBranch(from source: UInt64, to target: UInt64) {
    branchRecord.hasBranched = true
    branchRecord.noteBranch(from: source, to: target)
  }
}
