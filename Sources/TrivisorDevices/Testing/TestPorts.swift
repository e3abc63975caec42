import Synchronization
import TrivisorVMM

/// Twelve ports that hold what is written to them, for tests of IN and OUT: QEMU's `pc-testdev`.
///
/// One doubleword is seen through two windows: as wide as the access is at offset 0, a byte at a time at offset 8. What lies between them
/// takes the address of a page that a hypervisor is to map anew, which nothing that a guest sees depends on.
public final class TestPorts: PortDevice {
  /// Where test kernels expect them.
  public static let conventionalPort: UInt16 = 0xe0
  /// How many ports they are.
  public static let portCount: UInt16 = 12
  /// Offsets of the port that has a page mapped anew.
  private static let pageWindow: Range<UInt16> = 4..<8

  private let word = Atomic<UInt32>(0)

  /// All zeros.
  public init() {}

  /// What was written there last.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    if Self.pageWindow.contains(offset) { return 0 }
    return word.load(ordering: .acquiring) >> Self.shift(offset)
  }

  /// Keeps it.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    if Self.pageWindow.contains(offset) { return .none }
    let mask = UInt32(truncatingIfNeeded: width.allOnes) << Self.shift(offset)
    var old = word.load(ordering: .acquiring)
    while true {
      let new = old & ~mask | value << Self.shift(offset) & mask
      let (isExchanged, found) = word.compareExchange(expected: old, desired: new, ordering: .acquiringAndReleasing)
      if isExchanged { return .none }
      old = found
    }
  }

  private static func shift(_ offset: UInt16) -> UInt32 { 8 * UInt32(offset & 3) }
}

extension TestPorts: Restorable {
  /// The doubleword.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var word: UInt32
  }

  /// As it is.
  public func save() -> Saved { Saved(word: word.load(ordering: .acquiring)) }

  /// Any can have been written.
  public func restore(_ saved: Saved) throws(RestoreFailure) { word.store(saved.word, ordering: .releasing) }
}
