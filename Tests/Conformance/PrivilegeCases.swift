// Privilege levels (Privilege.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static func userFaults(_ count: Int) -> [UInt64] { (0..<count).flatMap { _ in Case.userFrame(13) } }

  /// The I/O permission bitmap behind the TSS: one port is allowed, all others are not.
  private static let allowOnePort: @Sendable (inout MachineState, TableWriter) throws -> Void = { state, tables in
    state.system.task.limit = 0x367
    try tables.write(
      TableWriter.descriptor(base: UInt32(Layout.tss), limit: 0x367, attributes: 0x8b),
      at: Layout.gdt + UInt64(Layout.tssSelector))
    var bitmap = [UInt8](repeating: 0xff, count: 0x301)
    bitmap[0xb8 / 8] &= ~(1 << (0xb8 % 8))
    // The table leaves 0x400 bytes for the TSS with its bitmap; ports from 0x1800 on are beyond it and refused.
    try tables.memory.copy(bitmap, to: GuestPhysicalAddress(Layout.tss + 0x68))
  }

  static let privilegeCases: [ConformanceCase] = [
    Case("privileged-instructions", .longUser, "#GP(0) at CPL 3 for 19 privileged instructions")
      .reporting(userFaults(19)),
    Case("privileged-by-iopl", .longUser, "#GP(0) for CLI, STI, IN, OUT and OUTS at CPL 3 with IOPL 0")
      .reporting(userFaults(5)),
    Case("flags-by-privilege", .longUser, "POPF at CPL 3 leaves IF and IOPL alone, silently").reporting([0x4_0400]),
    Case("flags-by-privilege-kernel", .long, "POPF at CPL 0 changes IOPL, DF and AC")
      .with { $0.results = [0x4_3400, 0] },
    Case("port-permission", .long, "the TSS's bitmap allows single ports at CPL 3, byte by byte")
      .reporting([0xa0] + userFaults(2)).prepared(allowOnePort),
    Case("privilege-iret", .long, "IRETQ into CPL 3 changes CS, SS and RSP; a fault there comes back on RSP0")
      .reporting([0x43, 0x3b, 0x13ff0] + Case.userFrame(13, stack: 0x13ff0)),
    Case("privilege-iret-virtual-interrupt", .long, "IRETQ at CPL 0 sets and clears VIF and VIP")
      .with { $0.results = [0x18_0000, 0, 0x18_0000, 0, 0x18_0000, 0] },
    Case("privilege-null-selectors", .long, "behind a return to CPL 3, null selectors are 0")
      .reporting([1, 3, 0, 0, 0, 0, 3] + Case.userFrame(13) + [0, 0]),
    Case("privilege-far-return", .long, "a far return into CPL 3 makes DS and ES of DPL 0 null")
      .reporting([0x43, 0x13fe0, 0, 0]),
    Case("privilege-gate", .longUser, "INT n through a gate of DPL 3; the handler's IRETQ brings everything back")
      .reporting(Case.userFrame(0x30) + [Layout.userStack, 0x1234_5678])
      .prepared { _, tables in try tables.writeLongModeGate(0x30, attributes: 0xee) },
    Case("privilege-syscall", .long, "SYSCALL and SYSRET: RCX, R11, the flags' mask, the selectors of STAR")
      .reporting([0, 0, 0x400, 8, 0x10, Layout.userStack, 0x400, 0x43, 0x3b, Layout.userStack]),
    Case("privilege-syscall-flags", .long, "SYSCALL keeps the status flags that its mask does not name")
      .reporting([0x8d5]),
    Case("privilege-syscall-disabled", .longUser, "#UD for SYSCALL while EFER.SCE = 0")
      .reporting(Case.userFrame(6)).prepared { state, _ in state.system.efer &= ~1 },
    Case("privilege-sysenter", .longUser, "#UD for SYSENTER in long mode, as AMD's processors do")
      .reporting(Case.userFrame(6)),
    Case("privilege-iret-refused", .long, "#GP(selector) for an IRETQ to CPL 3 with segments of DPL 0")
      .reporting(
        Case.frame(13, error: 0x10, stack: 0xefd8, top: 0xefd0) + Case.frame(13, error: 8, stack: 0xefd8, top: 0xefd0)),
    Case("privilege-iret-inwards", .longUser, "#GP(selector) for an IRETQ from CPL 3 to CPL 0")
      .reporting(Case.userFrame(13, error: 8, stack: 0x13fd8)),
    Case("privilege-call-gate", .longUser, "a call gate leads to CPL 0 on RSP0, SS null; a far return leads back")
      .reporting([8, 0, 0x11fe0, Layout.userStack, Layout.userStack, 0x43])
      .accompanied(by: "privilege_call_gate_target")
      .prepared { _, tables in
        // Offset 0x9000, CODE64, type 0xc of DPL 3, present.
        try tables.write(0x9000 | UInt64(Layout.code64) << 16 | 0xec << 40, at: Layout.gdt + 0x88)
      },
    Case("far-jump", .long, "far returns, jumps and calls between code segments of CPL 0").reporting([8, 8, 6, 0, 3]),
  ]
}
