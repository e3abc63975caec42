// Single steps and breakpoint registers (AMD64 APM vol. 2, 13.1).
//
// While the trap flag, a breakpoint or the recording of branches is on, each block is one instruction and comes back to
// Swift, and while a breakpoint is on, the view of the TLB is one that is always empty: so every instruction and every
// access can be looked at.
//
// The resume flag counts for one instruction: it is looked at and cleared when that begins. IRET sets it, and so does a
// repeated instruction between its rounds.

import InstructionSet
import VMM

extension RewritingProcessor {
  static let resumeFlag: UInt64 = 0x1_0000
  static let trapFlag: UInt64 = 0x100

  var hasBreakpoints: Bool { control.hasBreakpoints }

  var checksAlignment: Bool { control.checksAlignment }

  /// Which breakpoints of the given kinds lie in a range, as in DR6.
  private func hits(_ first: UInt64, count: Int, kinds: Set<UInt64>) -> UInt64 {
    var hits: UInt64 = 0
    for number in 0..<4 where debug.dr7 >> UInt64(2 * number) & 3 != 0 {
      let setting = debug.dr7 >> UInt64(16 + 4 * number)
      guard kinds.contains(setting & 3) else { continue }
      // 1, 2, 8, 4 bytes; the address is aligned to the length.
      let length: UInt64 = [1, 2, 8, 4][Int(setting >> 2 & 3)]
      let start = debug.addresses[number] & ~(length - 1)
      if first &- start < length || start &- first < UInt64(count) { hits |= 1 << UInt64(number) }
    }
    return hits
  }

  /// Before an instruction.
  func beginStep() throws(Interruption) {
    isResuming = systemFlags & Self.resumeFlag != 0
    systemFlags &= ~Self.resumeFlag
    branchRecord.hasBranched = false
    // MOV SS holds everything back, what its own operand has hit included.
    if shadow == .everything { return }
    accessHits = 0
    guard hasBreakpoints, !isResuming else { return }
    let found = hits(linearRIP, count: 1, kinds: [0])
    if found != 0 { throw .exception(debugTrap(found)) }
  }

  /// After one that completed, or after one round of a repeated one. `isTrapping` is decided by RFLAGS.TF as it was before
  /// the instruction; but for SYSCALL and SYSRET by what they have made of it, which their emulation has noted. (Seen on a
  /// Zen 4: POPF and IRET that clear TF trap, those that set it don't; Linux' entry code relies on the other two.)
  func finishStep() throws(Interruption) {
    guard shadow != .everything else { return }
    let found = accessHits
    accessHits = 0
    let steps = isTrapping && (!branchRecord.stepsBranches || branchRecord.hasBranched)
    guard steps || found != 0 else { return }
    throw .exception(debugTrap(found | (steps ? DebugBit.singleStep : 0)))
  }

  /// Sets DR6 for a #DB. B0 to B3 say what this one is about; the other bits stay until software clears them
  /// (AMD64 APM vol. 2, 13.1.1.3).
  func debugTrap(_ bits: UInt64) -> GuestException {
    debug.dr6 = debug.dr6 & ~DebugBit.breakpoints | bits
    return .debug
  }

  /// What #DB switches off, so that its handler is left alone: general detect, and the recording and stepping of branches.
  func enterDebugHandler() {
    debug.dr7 &= ~DebugBit.generalDetect
    branchRecord.switchOff()
  }

  /// The instruction at `source` has branched.
  func noteBranch(from source: UInt64, to target: UInt64) {
    branchRecord.hasBranched = true
    branchRecord.noteBranch(from: source, to: target)
  }

  /// What an operand of `count` bytes is aligned to where that is checked: at most 16.
  private static func alignment(_ count: Int) -> UInt64 {
    switch count {
    case 1, 2, 4, 8, 16: UInt64(count)
    case 32: 16
    case 10: 8
    // The x87 environment and state, of 16- and 32-bit form.
    case 14, 94: 2
    case 28, 108: 4
    default: 1
    }
  }

  /// To be told of each access of the guest to memory while `mode.checksAccesses`.
  func checkAccess(_ linear: UInt64, count: Int, _ access: MemoryAccess) throws(Interruption) {
    if checksAlignment, !selectsElements, linear & (Self.alignment(count) - 1) != 0 {
      throw .exception(.alignmentCheck)
    }
    if hasBreakpoints { accessHits |= hits(linear, count: count, kinds: access == .write ? [1, 3] : [3]) }
  }

  /// To be told of each access to a port.
  func checkPortBreakpoints(_ port: UInt16, width: AccessWidth) {
    guard hasBreakpoints, system.cr4 & 8 != 0 else { return }
    accessHits |= hits(UInt64(port), count: width.rawValue, kinds: [2])
  }
}
