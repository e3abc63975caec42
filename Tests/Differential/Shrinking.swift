import TrivisorInstructionSet

extension DifferentialTester {
  /// A case that differs, made smaller: fewer instructions, simpler state, as long as it differs.
  public func shrink(seed: UInt64, index: UInt64) -> String {
    var test = generator.make(seed: seed, index: index)
    func differs(_ candidate: TestCase) -> Bool {
      if case .different = run(candidate) { return true }
      return false
    }
    guard differs(test) else { return "case \(index) of seed \(seed) does not differ when it is run alone" }
    var isSmaller = true
    while isSmaller {
      isSmaller = false
      for position in test.elements.indices.reversed() where test.elements.count > 1 {
        var candidate = test
        let removed = candidate.elements.remove(at: position)
        if position == 0 { candidate.address += UInt64(removed.bytes.count) }
        for index in candidate.elements.indices {
          if let target = candidate.elements[index].target, target > position {
            let isBackward = target <= (index < position ? index : index + 1)
            candidate.elements[index].target = isBackward ? target - 1 : max(target - 1, index + 1)
          }
        }
        if differs(candidate) {
          test = candidate
          isSmaller = true
          break
        }
      }
    }
    func attempt(_ change: (inout TestCase) -> Void) {
      var candidate = test
      change(&candidate)
      if differs(candidate) { test = candidate }
    }
    for number in 0..<16 { attempt { $0.general[number] = 0 } }
    attempt { $0.flags = 0x202 }
    attempt { $0.bases = (0, 0) }
    attempt { $0.mxcsr = 0x1f80 }
    for lane in 0..<64 { attempt { $0.vectors[lane] = 0 } }
    attempt { test in
      test.x87 = [UInt8](repeating: 0, count: 160)
      test.x87[0] = 0x7f
      test.x87[1] = 3
    }
    guard case .different(let differences) = run(test) else { return "a case that differs only now and then" }
    return describe(test, differences)
  }

  /// A case as it is.
  public func show(seed: UInt64, index: UInt64) -> String {
    describe(generator.make(seed: seed, index: index), [])
  }

  private func describe(_ test: TestCase, _ differences: [String]) -> String {
    var lines = ["# at \(hex(test.address))"]
    var place = 0
    let code = test.code
    for element in test.elements {
      let bytes = code[place..<place + element.bytes.count].map { "0x" + String($0, radix: 16) }
      lines.append("  .byte \(bytes.joined(separator: ", "))  # \(generator.kinds[element.kind].name)")
      place += element.bytes.count
    }
    for number in 0..<16 where test.general[number] != 0 {
      lines.append("# \(ProcessorOutcome.names[number]) = \(hex(test.general[number]))")
    }
    lines.append("# RFLAGS = \(hex(test.flags)), MXCSR = \(hex(UInt64(test.mxcsr)))")
    if test.bases != (0, 0) { lines.append("# FS base = \(hex(test.bases.fs)), GS base = \(hex(test.bases.gs))") }
    for lane in 0..<64 where test.vectors[lane] != 0 {
      lines.append("# YMM\(lane / 4)[\(lane % 4)] = \(hex(test.vectors[lane]))")
    }
    if test.x87[0] != 0x7f || test.x87[2...].contains(where: { $0 != 0 }) {
      lines.append("# x87 = " + test.x87[0..<5].map { String($0, radix: 16) }.joined(separator: " ") + " and registers")
    }
    return (lines + differences.map { "#   " + $0 }).joined(separator: "\n")
  }

  private func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}
