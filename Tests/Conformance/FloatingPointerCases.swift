// Where the last x87 instruction and its operand were (FloatingPointers.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// CR4.OSXSAVE, and x87, SSE and AVX in XCR0.
  private static let withXSAVE: @Sendable (inout MachineState, TableWriter) throws -> Void = { state, _ in
    state.system.cr4 |= 1 << 18
    state.extended.xcr0 = 7
  }

  private static let none: [UInt64] = [0, 0, 0]

  /// FDIVRP, behind a load of DATA + 8.
  private static let division: [UInt64] = [0, 0x6f9, 0x2_0008]

  static let floatingPointerCases: [ConformanceCase] = [
    Case.both(
      "floating-pointers", "FNSTENV and FNSAVE store where the last x87 instruction was, its opcode and its operand",
      results: { _ in
        [
          none, [0, 0x543, 0x2_0008], [0, 0xc1, 0x2_0008], [0, 0xc1, 0x2_0008], [0, 0x31d, 0x2_0020],
          [0, 0x37c, 0x2_000a], [0, 0x55b, 0x2_0048], [0, 0x55b, 0x2_0048], none, none,
        ].flatMap(\.self)
      }),
    Case.both(
      "floating-pointers-pending", "FXSAVE and XSAVE store them while an exception is pending that is not masked",
      results: { isUser in
        Case.frame(from: isUser, 16) + Case.frame(from: isUser, 16) + division + division + division
          + [0, 0x433, 0x2_0040] + division + none
      }
    ) { $0.prepared(withXSAVE) },
    Case.both(
      "floating-pointers-clear", "FXSAVE and XSAVE store zeros while no exception is pending",
      results: { _ in none + none + none }
    ) { $0.prepared(withXSAVE) },
    Case.both(
      "floating-pointers-load", "FLDENV, FRSTOR, FXRSTOR and XRSTOR load them",
      results: { _ in
        [
          [0x1234_5678, 0x765, 0x9abc_def0], [0x1234_5678, 0x765, 0x9abc_def0], [0x5678, 0, 0xdef0],
          [0x5678_9abc, 0x123, 0x4567_89ab], [0x123_4567, 0x7ff, 0x234_5678], none,
        ].flatMap(\.self)
      }
    ) { $0.prepared(withXSAVE) },
    Case.both(
      "floating-pointers-selectors", "FNSTENV, and FXSAVE without REX.W, store selectors",
      results: { isUser in
        let (code, data): (UInt64, UInt64) = isUser ? (0x43, 0x3b) : (0x08, 0x10)
        return [code, data, 0x3b, code << 32, 0x6f9, data << 32 | 0x2_0008] + division
      }),
    [
      ("", GuestMode.compatibility, UInt64(0x18), UInt64(0x10)), ("-user", .compatibilityUser, 0x33, 0x3b),
      ("-protected", .protected, 0x18, 0x10),
    ].map { suffix, mode, code, data in
      Case(
        "floating-pointers-compatibility" + suffix, mode, "the 28 and 14 bytes that 32-bit code stores",
        guest: "floating_pointers_compatibility"
      )
      .reporting([
        0, 0x543 << 16 | code, 0x2_0008, 0xffff_0000 | data, 0, code, data << 16 | 0x0008, 0xffff_ffff,
      ])
    },
    [
      Case("floating-pointers-real", .real, "linear addresses of 20 bits, in 14 and 28 bytes")
        .reporting([0, 0x506, 0x3000_5794, 0, 0x506, 0x3000_5794, 0, 0x506, 0x5794, 0x3000])
    ],
  ].flatMap(\.self)
}
