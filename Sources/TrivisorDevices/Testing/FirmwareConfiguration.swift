import Synchronization
import TrivisorVMM

/// What a PC's firmware is told of the machine by QEMU's firmware configuration interface (QEMU, `docs/specs/fw_cfg`): of it the
/// items of a fixed number that say how large the machine is, and a directory without files.
///
/// A word written to the first port chooses an item, whose bytes the second port then gives one after the other; behind its end, and
/// for an item that does not exist, zeros. Nothing can be written.
public final class FirmwareConfiguration: PortDevice {
  /// The selector's port; the data's is the next.
  public static let conventionalPort: UInt16 = 0x510
  /// How many ports it answers.
  public static let portCount: UInt16 = 2

  /// Numbers of items (Linux, `include/uapi/linux/qemu_fw_cfg.h`).
  enum Item: UInt16 {
    case signature = 0
    case interfaces = 1
    case memorySize = 3
    case processorCount = 5
    case maximumProcessorCount = 15
    case directory = 25
  }

  /// In an item's number: it is chosen to be written, which changes nothing here.
  private static let writeChannel: UInt16 = 0x4000
  /// Of the interfaces that there can be: this one, without DMA.
  private static let traditionalInterface: UInt32 = 1

  private struct Position {
    var item: UInt16 = 0
    var offset = 0
  }

  private let processorCount: Int
  private let memorySize: UInt64
  private let position = Mutex(Position())

  /// - Parameters:
  ///   - processorCount: of the machine.
  ///   - memorySize: in bytes.
  public init(processorCount: Int, memorySize: UInt64) {
    self.processorCount = processorCount
    self.memorySize = memorySize
  }

  private func bytes(of item: UInt16) -> [UInt8] {
    func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    switch Item(rawValue: item) {
    case .signature?: return Array("QEMU".utf8)
    case .interfaces?: return littleEndian(Self.traditionalInterface)
    case .memorySize?: return littleEndian(memorySize)
    case .processorCount?, .maximumProcessorCount?: return littleEndian(UInt16(clamping: processorCount))
    // The number of files.
    case .directory?: return littleEndian(UInt32(0))
    case nil: return []
    }
  }

  /// The next byte of the item, at the second port.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    guard offset == 1, width == .byte else { return 0 }
    return position.withLock { position in
      let bytes = bytes(of: position.item & ~Self.writeChannel)
      guard bytes.indices.contains(position.offset) else { return 0 }
      defer { position.offset += 1 }
      return UInt32(bytes[position.offset])
    }
  }

  /// Chooses an item, at the first port.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    guard offset == 0, width == .word else { return .none }
    position.withLock { $0 = Position(item: UInt16(truncatingIfNeeded: value)) }
    return .none
  }
}

extension FirmwareConfiguration: Restorable {
  /// What is chosen, and how much of it was read.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var item: UInt16
    var offset: Int
  }

  /// As it is.
  public func save() -> Saved { position.withLock { Saved(item: $0.item, offset: $0.offset) } }

  /// - Throws: `RestoreFailure` when more was read than the item has.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let count = bytes(of: saved.item & ~Self.writeChannel).count
    try restoring(
      "firmware configuration", requires: (0...count).contains(saved.offset),
      "\(saved.offset) bytes of item \(saved.item) were read, which has \(count)")
    position.withLock { $0 = Position(item: saved.item, offset: saved.offset) }
  }
}
