import TrivisorVMM

/// Ends the machine with a code of the guest's choosing: the `isa-debug-exit` convention of test kernels.
///
/// The guest writes once, 1, 2 or 4 bytes wide; the value's low eight bits are the code. Reads give all ones, as an
/// absent device does, so that a guest can't take it for memory.
public final class DebugExit: PortDevice {
  /// Where test kernels expect it.
  public static let conventionalPort: UInt16 = 0xf4
  /// How many ports it answers.
  public static let portCount: UInt16 = 4

  /// How a written value becomes the machine's exit code.
  public enum Encoding: Sendable {
    /// The value's low eight bits.
    case raw
    /// `(value << 1) | 1`, low eight bits: for scripts made for QEMU. Never zero.
    case qemu
  }

  private let encoding: Encoding

  /// A device without state.
  public init(encoding: Encoding = .raw) {
    self.encoding = encoding
  }

  /// All ones.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    UInt32(truncatingIfNeeded: width.allOnes)
  }

  /// Ends the machine.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    switch encoding {
    case .raw: .stop(.exited(code: UInt8(truncatingIfNeeded: value)))
    case .qemu: .stop(.exited(code: UInt8(truncatingIfNeeded: value &<< 1 | 1)))
    }
  }
}

extension DebugExit: Restorable {
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
