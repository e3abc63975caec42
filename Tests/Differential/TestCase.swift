import TrivisorInstructionSet

/// One case: instructions, and the state in which they begin. Memory begins with the same content in every case.
struct TestCase {
  struct Element {
    var bytes: [UInt8]
    let kind: Int
    let mnemonic: String
    let flags: FlagUse
    /// A direct branch's: which element it leads to, if to one; the last but one is the end.
    var target: Int?
    var branchOffset: (place: Int, size: Int)?
  }

  var elements: [Element] = []
  /// Of the first instruction, in the region.
  var address: UInt64 = 0
  var general = [UInt64](repeating: 0, count: 16)
  var flags: UInt64 = 0x202
  var bases: (fs: UInt64, gs: UInt64) = (0, 0)
  /// 16 YMM registers.
  var vectors = [UInt64](repeating: 0, count: 64)
  var mxcsr: UInt32 = 0x1f80
  /// The first 160 bytes of FXSAVE's area.
  var x87 = [UInt8](repeating: 0, count: 160)

  /// Flags without a defined value in front of each element, and at the end.
  var undefinedFlags: [Flags] {
    var undefined: Flags = []
    var all: [Flags] = [undefined]
    for element in elements {
      if !element.flags.isConditional {
        undefined.subtract(element.flags.modified.union(element.flags.cleared).union(element.flags.set))
      }
      undefined.formUnion(element.flags.undefined)
      all.append(undefined)
    }
    return all
  }

  /// Flags that need not be the same when the code ends at `rip`.
  func undefinedFlags(at rip: UInt64) -> Flags {
    let all = undefinedFlags
    var place = address
    if elements.allSatisfy({ $0.branchOffset == nil }) {
      for (index, element) in elements.enumerated() {
        if place == rip { return all[index] }
        place += UInt64(element.bytes.count)
      }
      if place == rip { return all[elements.count] }
    }
    return all.reduce(Flags()) { $0.union($1) }
  }

  /// Followed by UD2, where it ends.
  var code: [UInt8] {
    var elements = elements
    var starts: [Int] = []
    var length = 0
    for element in elements {
      starts.append(length)
      length += element.bytes.count
    }
    starts.append(length)
    for index in elements.indices {
      guard let target = elements[index].target, let (place, size) = elements[index].branchOffset else { continue }
      let offset = starts[min(target, elements.count)] - starts[index + 1]
      for byte in 0..<size {
        elements[index].bytes[place + byte] = UInt8(truncatingIfNeeded: offset >> (8 * byte))
      }
    }
    return elements.flatMap(\.bytes) + [0x0f, 0x0b]
  }
}
