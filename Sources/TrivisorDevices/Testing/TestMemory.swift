import Synchronization
import TrivisorVMM

/// 64 KiB that behave as memory and are a device's, for tests of instructions that reach one: QEMU's `pc-testdev`.
public final class TestMemory: MemoryDevice {
  /// Where test kernels expect it.
  public static let conventionalAddress = GuestPhysicalAddress(0xff00_0000)
  /// In bytes.
  public static let size: UInt64 = 0x1_0000

  private let bytes = Mutex([UInt8](repeating: 0, count: Int(size)))

  /// All zeros.
  public init() {}

  /// What was written there last.
  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    bytes.withLock { bytes in
      var value: UInt64 = 0
      for index in Self.indices(offset, width) {
        value |= UInt64(bytes[index]) << UInt64(8 * (index - Int(offset)))
      }
      return value
    }
  }

  /// Keeps it.
  public func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    bytes.withLock { bytes in
      for index in Self.indices(offset, width) {
        bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (index - Int(offset))))
      }
    }
    return .none
  }

  /// What of an access is inside.
  private static func indices(_ offset: UInt64, _ width: AccessWidth) -> Range<Int> {
    guard offset < size else { return 0..<0 }
    return Int(offset)..<min(Int(offset) + width.rawValue, Int(size))
  }
}

extension TestMemory: Restorable {
  /// The bytes.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var bytes: [UInt8]
  }

  /// As they are.
  public func save() -> Saved { Saved(bytes: bytes.withLock { $0 }) }

  /// - Throws: `RestoreFailure` when they are more or fewer.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "test memory", requires: saved.bytes.count == Int(Self.size),
      "it has \(saved.bytes.count) bytes, not \(Self.size)")
    bytes.withLock { $0 = saved.bytes }
  }
}
