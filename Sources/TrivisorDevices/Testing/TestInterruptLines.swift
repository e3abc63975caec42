import Synchronization
import TrivisorVMM

/// A port for each interrupt line, which is asserted while anything but 0 was written to it last: QEMU's `pc-testdev`.
public final class TestInterruptLines: PortDevice {
  /// The port of line 0.
  public static let conventionalPort: UInt16 = 0x2000
  /// How many lines: all inputs of the I/O APIC.
  public static let portCount: UInt16 = 24

  private let lines: [InterruptLine]
  /// Bit n: line n is asserted.
  private let asserted = Atomic<UInt32>(0)

  /// - Parameter router: where the lines lead to; none of them is asserted.
  public init(router: InterruptRouter) {
    lines = (0..<Int(Self.portCount)).map { InterruptLine($0, router: router) }
  }

  /// Nothing, whatever the width: the lines can't be read.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }

  /// Drives the line of the first port of the access.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    guard let line = lines.indices.contains(Int(offset)) ? lines[Int(offset)] : nil else { return .none }
    let bit: UInt32 = 1 << UInt32(offset)
    if value != 0 {
      asserted.bitwiseOr(bit, ordering: .acquiringAndReleasing)
    } else {
      asserted.bitwiseAnd(~bit, ordering: .acquiringAndReleasing)
    }
    line.set(asserted: value != 0)
    return .none
  }
}

extension TestInterruptLines: Restorable {
  /// The lines' levels.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var asserted: UInt32
  }

  /// As they are.
  public func save() -> Saved { Saved(asserted: asserted.load(ordering: .acquiring)) }

  /// - Throws: `RestoreFailure` when a line is asserted that does not exist.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "test lines", requires: saved.asserted >> UInt32(Self.portCount) == 0,
      "they are the bits \(hexadecimal(UInt64(saved.asserted))), and there are \(Self.portCount)")
    let old = asserted.exchange(saved.asserted, ordering: .acquiringAndReleasing)
    // Lines that it does not drive may be other devices'.
    for (number, line) in lines.enumerated() where (old | saved.asserted) & 1 << UInt32(number) != 0 {
      line.set(asserted: saved.asserted & 1 << UInt32(number) != 0)
    }
  }
}
