/// Memory types by their numbers in MTRRs and PAT (AMD64 APM vol. 2, 7.7.1 and 7.8.1).
public enum MemoryType {
  /// UC, WC, WT, WP or WB: what an MTRR may say.
  public static func isPossible(_ number: UInt64) -> Bool { number < 7 && number != 2 && number != 3 }

  /// Eight of them, as a fixed range's register holds them.
  public static func areFixedRanges(_ value: UInt64) -> Bool {
    (0..<8).allSatisfy { isPossible(value >> UInt64(8 * $0) & 0xff) }
  }

  /// Eight of them, as PAT holds them, which has UC-, too.
  public static func arePageAttributes(_ value: UInt64) -> Bool {
    (0..<8).allSatisfy { field in
      let number = value >> UInt64(8 * field) & 0xff
      return isPossible(number) || number == 7
    }
  }
}
