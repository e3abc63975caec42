import TrivisorVMM

/// Ends the machine with a code from 0 to 255: the register of this program's own guest interface.
///
/// Unlike the debug exit device it can be recognized: its four ports read as `magic`. A write to the first port, 1, 2
/// or 4 bytes wide, ends the machine with that code; a value above 255 ends it with 255, so that an error number that
/// does not fit never looks like success. Writes to the other three ports do nothing.
public final class ExitCodeRegister: PortDevice {
  /// Where guests look for it.
  public static let conventionalPort: UInt16 = 0x5f0
  /// How many ports it answers.
  public static let portCount: UInt16 = 4
  /// "TRVX", little-endian.
  public static let magic: UInt32 = 0x5856_5254

  /// A device without state.
  public init() {}

  /// The part of `magic` that lies at `offset`.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    offset < Self.portCount ? Self.magic >> UInt32(8 * offset) : UInt32(truncatingIfNeeded: width.allOnes)
  }

  /// Ends the machine, at offset 0.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    offset == 0 ? .stop(.exited(code: UInt8(clamping: value))) : .none
  }
}

extension ExitCodeRegister: Restorable {
  /// Nothing is kept.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
  }

  /// Nothing.
  public func save() -> Saved { Saved() }

  /// Nothing changes.
  public func restore(_ saved: Saved) throws(RestoreFailure) {}
}
