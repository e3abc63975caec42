// Single steps and breakpoint registers (AMD64 APM vol. 2, 13.1).
//
// While the trap flag or a breakpoint is on, each block is one instruction and comes back to Swift, and while a breakpoint
// is on, the view of the TLB is one that is always empty: so every instruction and every access can be looked at. The
// resume flag is looked at and cleared when an instruction begins; at other times nothing depends on it.

import InstructionSet
import VMM

extension RewritingProcessor {
  static let resumeFlag: UInt64 = 0x1_0000

  var hasBreakpoints: Bool { debug.dr7 & 0xff != 0 }

  /// RFLAGS.AC and CR0.AM count at CPL 3 only.
  var checksAlignment: Bool { cpl == 3 && systemFlags & 0x4_0000 != 0 && system.cr0 & 0x4_0000 != 0 }

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
    accessHits = 0
    let resumes = systemFlags & Self.resumeFlag != 0
    systemFlags &= ~Self.resumeFlag
    guard hasBreakpoints, !resumes else { return }
    let found = hits(mode.bits == .bits64 ? rip : (system.cs.base &+ rip) & 0xffff_ffff, count: 1, kinds: [0])
    if found != 0 {
      debug.dr6 = debug.dr6 & ~0xf | found
      throw .exception(.debugFault)
    }
  }

  /// After one that completed, or after one round of a repeated one.
  func finishStep(isTrapping: Bool) throws(Interruption) {
    guard !isInShadow else { return }
    let found = accessHits
    accessHits = 0
    guard isTrapping || found != 0 else { return }
    if found != 0 { debug.dr6 = debug.dr6 & ~0xf | found }
    if isTrapping { debug.dr6 |= 0x4000 }
    throw .exception(.debug)
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
