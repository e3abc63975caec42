// The runner's own devices: what a guest reports to, and what keeps a journal of how it was accessed.

import Synchronization
import TrivisorVMM

/// One access as a device saw it.
public struct DeviceAccess: Sendable, Equatable, CustomStringConvertible {
  /// Port or guest physical address.
  public let address: UInt64
  /// Bytes.
  public let width: Int
  /// Written; `nil` for a read.
  public let value: UInt64?

  static func read(_ address: UInt64, _ width: Int) -> DeviceAccess {
    DeviceAccess(address: address, width: width, value: nil)
  }

  static func write(_ address: UInt64, _ width: Int, _ value: UInt64) -> DeviceAccess {
    DeviceAccess(address: address, width: width, value: value)
  }

  /// The same as accesses of one byte each.
  var bytes: [DeviceAccess] {
    (0..<width).map { byte in
      DeviceAccess(
        address: address &+ UInt64(byte), width: 1, value: value.map { $0 >> UInt64(8 * byte) & 0xff })
    }
  }

  /// For messages.
  public var description: String {
    let kind = value.map { "write \(hexadecimal($0)) to" } ?? "read"
    return "\(kind) \(hexadecimal(address)) (\(width))"
  }
}

/// What the devices of one machine saw.
final class Journal: Sendable {
  private struct Content {
    var results: [UInt64] = []
    var high: UInt64 = 0
    var accesses: [DeviceAccess] = []
  }

  private let content = Mutex(Content())

  func report(_ value: UInt64) {
    content.withLock { content in
      content.results.append(value | content.high << 32)
      content.high = 0
    }
  }

  func reportHigh(_ value: UInt64) { content.withLock { $0.high = value } }
  func note(_ access: DeviceAccess) { content.withLock { $0.accesses.append(access) } }

  var results: [UInt64] { content.withLock { $0.results } }
  var accesses: [DeviceAccess] { content.withLock { $0.accesses } }
}

/// Takes the guest's report: offset 0 a value, offset 4 the upper half of the next.
final class ResultPort: PortDevice {
  private let journal: Journal
  init(_ journal: Journal) { self.journal = journal }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { .max }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    if offset >= 4 { journal.reportHigh(UInt64(value)) } else { journal.report(UInt64(value)) }
    return .none
  }
}

/// Ports that keep a journal; the byte at offset n reads as `first + n`.
final class JournalPorts: PortDevice {
  private let journal: Journal
  private let base: UInt16
  private let first: UInt8

  init(_ journal: Journal, base: UInt16, first: UInt8) {
    self.journal = journal
    self.base = base
    self.first = first
  }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    journal.note(.read(UInt64(base &+ offset), width.rawValue))
    return (0..<4).reduce(0) { value, byte in
      value | UInt32(first &+ UInt8(truncatingIfNeeded: offset) &+ UInt8(byte)) << UInt32(8 * byte)
    }
  }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    journal.note(.write(UInt64(base &+ offset), width.rawValue, UInt64(value)))
    return .none
  }
}

/// Device memory that keeps a journal; the byte at offset n reads as 0x80 + n, modulo 256.
final class JournalMemory: MemoryDevice {
  private let journal: Journal
  private let base: UInt64

  init(_ journal: Journal, base: UInt64) {
    self.journal = journal
    self.base = base
  }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    journal.note(.read(base &+ offset, width.rawValue))
    return (0..<8).reduce(0) { value, byte in
      value | UInt64(UInt8(truncatingIfNeeded: offset &+ 0x80 &+ UInt64(byte))) << UInt64(8 * byte)
    }
  }

  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    journal.note(.write(base &+ offset, width.rawValue, value))
    return .none
  }
}

/// Ends the guest with a code.
final class FinishPort: PortDevice {
  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { .max }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    .stop(.exited(code: UInt8(truncatingIfNeeded: value)))
  }
}

/// Does what a guest asks for by a number (the EVENT_ names of guest.h).
final class EventPort: PortDevice {
  private let handler: @Sendable (UInt8) -> Void
  init(_ handler: @escaping @Sendable (UInt8) -> Void) { self.handler = handler }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { .max }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    handler(UInt8(truncatingIfNeeded: value))
    return .none
  }
}

/// The three ports above as device memory, for guests at CPL 3: the report at offset 0, events at 16, the end at 24.
final class UserPage: MemoryDevice {
  private let journal: Journal
  private let handler: @Sendable (UInt8) -> Void

  init(_ journal: Journal, handler: @escaping @Sendable (UInt8) -> Void) {
    self.journal = journal
    self.handler = handler
  }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 { .max }

  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    switch offset {
    case 0: journal.report(value)
    case 16: handler(UInt8(truncatingIfNeeded: value))
    case 24: return .stop(.exited(code: UInt8(truncatingIfNeeded: value)))
    default: break
    }
    return .none
  }
}
