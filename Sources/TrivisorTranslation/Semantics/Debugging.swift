// Breakpoint registers and what #DB leaves in DR6 (AMD64 APM vol. 2, 13.1.1).

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// What a breakpoint may have been set for.
enum BreakpointUse {
  case execution, read, write, port

  func matches(_ condition: DR7.Condition) -> Bool {
    switch self {
    case .execution: condition == .execution
    case .read: condition == .access
    case .write: condition == .access || condition == .write
    case .port: condition == .port
    }
  }
}

extension DebugRegisters {
  var hasBreakpoints: Bool { dr7 & DR7.enables.rawValue != 0 }

  /// Which breakpoints a use of these bytes hits: B0 to B3.
  func hits(_ first: UInt64, count: Int, _ use: BreakpointUse) -> DR6 {
    let control = DR7(rawValue: dr7)
    var hits: DR6 = []
    for number in 0..<4 where control.isEnabled(number) && use.matches(control.condition(number)) {
      // The address is aligned to the length.
      let length = control.length(number)
      let start = addresses[number] & ~(length - 1)
      if first &- start < length || start &- first < UInt64(count) { hits.insert(DR6(rawValue: 1 << UInt64(number))) }
    }
    return hits
  }
}

extension InstructionContext {
  /// Sets DR6 for a #DB. B0 to B3 say what this one is about; the other bits stay until software clears them
  /// (AMD64 APM vol. 2, 13.1.1.3).
  func debugTrap(_ bits: DR6) -> GuestException {
    debug.dr6 = DR6(rawValue: debug.dr6).subtracting(.breakpoints).union(bits).rawValue
    return .debug
  }
}
