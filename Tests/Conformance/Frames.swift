// What the handlers of Handlers.S report of an exception.

import TrivisorVMM

extension ConformanceCase {
  /// In 64-bit mode without a change of privilege. `stack` is RSP before the exception.
  /// - Parameters:
  ///   - rip: the saved RIP less the expected one.
  ///   - top: the top of the frame, where it is not `stack` aligned.
  static func frame(
    _ vector: UInt64, error: UInt64 = 0, rip: UInt64 = 0, cs: UInt64 = 8, flags: UInt64 = 0,
    stack: UInt64 = Layout.stack, ss: UInt64 = 0x10, top: UInt64? = nil, cr2: UInt64? = nil
  ) -> [UInt64] {
    [0xfa00 | vector, error, rip, cs, flags, stack, ss, top ?? stack & ~15] + (cr2.map { [$0] } ?? [])
  }

  /// From CPL 3 in 64-bit mode.
  static func userFrame(
    _ vector: UInt64, error: UInt64 = 0, rip: UInt64 = 0, flags: UInt64 = 0, stack: UInt64 = Layout.userStack,
    top: UInt64 = Layout.rsp0, cr2: UInt64? = nil
  ) -> [UInt64] {
    frame(vector, error: error, rip: rip, cs: 0x43, flags: flags, stack: stack, ss: 0x3b, top: top, cr2: cr2)
  }

  /// In 32-bit protected mode without a change of privilege: the frame has no stack pointer, so the three last values
  /// are those before its top.
  static func frame32(
    _ vector: UInt64, error: UInt64 = 0, rip: UInt64 = 0, cs: UInt64 = 0x18, flags: UInt64 = 0,
    stack: UInt64 = Layout.stack, cr2: UInt64? = nil
  ) -> [UInt64] {
    [0xfa00 | vector, error, rip, cs, flags, stack, 0x10, stack] + (cr2.map { [$0] } ?? [])
  }

  /// In real mode.
  static func frame16(_ vector: UInt64, ip: UInt64 = 0, cs: UInt64 = 0, flags: UInt64 = 0) -> [UInt64] {
    [0xfa00 | vector, ip, cs, flags]
  }

  /// The same guest at CPL 0 and, with "-user", at CPL 3. `results` gets the frame maker for the level.
  static func both(
    _ name: String, _ summary: String, guest: String? = nil, results: (_ isUser: Bool) -> [UInt64],
    _ change: (ConformanceCase) -> ConformanceCase = { $0 }
  ) -> [ConformanceCase] {
    let guest = guest ?? String(name.map { $0 == "-" ? "_" : $0 })
    return [
      change(ConformanceCase(name, .long, summary, guest: guest).reporting(results(false))),
      change(
        ConformanceCase(name + "-user", .longUser, summary + "; at CPL 3", guest: guest).reporting(results(true))),
    ]
  }

  /// The same guest at both levels, where what it reports does not depend on the level.
  static func both(
    _ name: String, _ summary: String, guest: String? = nil, _ change: (ConformanceCase) -> ConformanceCase
  ) -> [ConformanceCase] {
    both(name, summary, guest: guest, results: { _ in [] }, change)
  }

  /// The frame from CPL 0 or from CPL 3.
  static func frame(
    from isUser: Bool, _ vector: UInt64, error: UInt64 = 0, rip: UInt64 = 0, flags: UInt64 = 0, cr2: UInt64? = nil
  ) -> [UInt64] {
    isUser
      ? userFrame(vector, error: error, rip: rip, flags: flags, cr2: cr2)
      : frame(vector, error: error, rip: rip, flags: flags, cr2: cr2)
  }
}
