// Near calls and returns (Returns.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// Of 2 to 3000, once for each round so far.
  private static let deepSums: [UInt64] = [1, 2, 3].map { $0 * (3000 * 3001 / 2 - 1) }

  static let returnCases: [ConformanceCase] = [
    Case.both("returns-changed", "code behind a call is changed before the call returns") {
      $0.reporting([0x11, 0x11, 0x11, 0x22])
    },
    Case.both("returns-unpaired", "returns that do not go where the last call came from") {
      $0.reporting((0..<3).flatMap { _ -> [UInt64] in [0x113, 0x113, 0x113, 0, 0x114] })
    },
    Case.both("returns-again", "a thousand returns to where one call was made, and to other code there") {
      $0.reporting([0x11, 0x22, 1001])
    },
    Case.both("returns-deep", "3000 calls deep, and back, with RET releasing the arguments") {
      $0.reporting(deepSums + [0])
    },
    [
      Case("returns-deep-compatibility", .compatibility, "the same in 32-bit code").reporting(deepSums),
      Case(
        "returns-deep-compatibility-user", .compatibilityUser, "the same at CPL 3", guest: "returns_deep_compatibility"
      ).reporting(deepSums),
      Case(
        "returns-deep-protected", .protected, "the same outside long mode", guest: "returns_deep_compatibility"
      ).reporting(deepSums),
    ],
    Case.both(
      "returns-not-canonical", "a return address that is canonical no more: #GP at RET, which leaves RSP as it was",
      results: { isUser in
        let frame =
          isUser
          ? Case.userFrame(13, stack: Layout.userStack - 8)
          : Case.frame(13, stack: Layout.stack - 8)
        return [4, 3, 2] + frame + [0]
      }),
    [
      Case("returns-remapped", .long, "another page comes to where the call was before it returns")
        .reporting(
          (0..<3).flatMap { _ -> [UInt64] in
            [0x11, 0x11, 0x11, 0x22, 0x11, 0x22, 0x11, 0x11, 0x22, 0x22, 0x11]
          }),
      Case("returns-to-user", .long, "what was called at CPL 0 is returned to at CPL 3, and has its rights")
        .reporting([4, 3, 2] + Case.userFrame(13) + [1]),
    ],
  ].flatMap(\.self)
}
