import TrivisorVMM
import TrivisorX86

/// What the fast system calls make of CS and SS: flat segments, whatever the descriptor tables say (AMD64 APM vol. 2, 6.1;
/// vol. 3, "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT").
struct SystemCallSegments {
  var code: Segment
  var stack: Segment

  private static func callSelector(_ star: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: star >> 32) & ~3 }
  private static func returnSelector(_ star: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: star >> 48) }

  private init(code: Segment, stack: Segment, privilege: UInt8) {
    (self.code, self.stack) = (code.with(privilege: privilege), stack.with(privilege: privilege))
  }

  /// SYSCALL in long mode.
  static func call(star: UInt64) -> SystemCallSegments {
    let selector = callSelector(star)
    return SystemCallSegments(
      code: .flatCode64(selector: selector), stack: .flatData(selector: selector &+ 8), privilege: 0)
  }

  /// SYSCALL outside of it.
  static func legacyCall(star: UInt64) -> SystemCallSegments { flat(callSelector(star), privilege: 0) }

  /// SYSRET, to 64-bit mode or to 32-bit code.
  static func `return`(star: UInt64, to64: Bool) -> SystemCallSegments {
    let base = returnSelector(star)
    return SystemCallSegments(
      code: to64 ? .flatCode64(selector: (base &+ 16) | 3) : .flatCode32(selector: base | 3),
      stack: .flatData(selector: (base &+ 8) | 3), privilege: 3)
  }

  /// SYSENTER, by SYSENTER_CS.
  static func enter(_ selector: UInt16) -> SystemCallSegments { flat(selector, privilege: 0) }
  /// SYSEXIT, by SYSENTER_CS.
  static func exit(_ selector: UInt16) -> SystemCallSegments { flat((selector &+ 16) | 3, privilege: 3) }

  /// 32-bit code, and the data segment behind it.
  private static func flat(_ selector: UInt16, privilege: UInt8) -> SystemCallSegments {
    SystemCallSegments(
      code: .flatCode32(selector: selector), stack: .flatData(selector: selector &+ 8), privilege: privilege)
  }
}
