import Synchronization
import TrivisorVMM

/// Port 0x80: where firmware writes how far it got (POST codes), and where kernels write to pass a microsecond.
///
/// Reads back what was written last, as the DMA page register does that lies there on a PC.
public final class DiagnosticPort: ByteWidePortDevice {
  /// Its port on a PC.
  public static let conventionalPort: UInt16 = 0x80
  /// How many ports it answers.
  public static let portCount: UInt16 = 1

  private let code = Atomic<UInt8>(0)

  /// Nothing written yet.
  public init() {}

  /// What was written last.
  public var lastCode: UInt8 { code.load(ordering: .relaxed) }

  func readByte(at offset: UInt16) -> UInt8 { lastCode }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    code.store(value, ordering: .relaxed)
    return .none
  }
}

extension DiagnosticPort: Restorable {
  /// What was written last.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var code: UInt8
  }

  /// The last code.
  public func save() -> Saved { Saved(code: lastCode) }

  /// Any code can be.
  public func restore(_ saved: Saved) throws(RestoreFailure) { code.store(saved.code, ordering: .relaxed) }
}
