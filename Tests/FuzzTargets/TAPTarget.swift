import TrivisorTestRunner

/// The reader of test points, and of manifests.
final class TAPTarget: FuzzTarget {
  static let name = "tap"
  static let seeds = [
    "TAP version 14\n1..2\n# Subtest: a\n    ok 1 - b\n    not ok 2 - c # TODO d\n    1..2\nok 1 - a\nok 2 # SKIP e\n",
    "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: example\n  1..2\n  ok 1 test_1\n  not ok 2 test_2\nnot ok 1 example\n",
    "TAP version 13\n1..1\n# selftests: x: y\n# TAP version 13\n# 1..1\n# ok 1 a\nnot ok 1 selftests: x: y # exit=1\n",
    "1..1\nnot ok 1 a\n  ---\n  message: b\n  ...\nBail out! c\n", "1..0 # SKIP nothing\n",
    "ok\nok 18446744073709551616\n",
  ].map { Array($0.utf8) }

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    var reader = TAPReader()
    for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      reader.read(Array(line)[...])
    }
    _ = reader.conclusion()
  }
}
