// What lies where in the guest's physical address space, as a PC's firmware would tell it.
//
//     0 ──── 0x9fc00 ── 0xa0000 ──────── 0xf0000 ── 1 MiB ─── 3 GiB ───── 4 GiB ──────
//     usable  │ EBDA     │ video, options │ firmware │ usable  │ devices    │ usable
//             │ reserved │ not listed     │ reserved │         │ not listed │
//
// All of the first three gigabytes is RAM here, what is not listed too: firmware tables go into the firmware's part, and the
// rest holds zeros where a PC has video memory and ROMs. Multiboot, e820 and PVH tell the guest the same entries, each in its
// own words.

import TrivisorVMM

/// The memory that a guest is told about, in ascending order, without overlaps.
public struct MemoryMap: Sendable, Equatable {
  /// What a range is for; the values of ACPI's address range types (ACPI 6.5, 15.1), which e820, multiboot and PVH
  /// share.
  public enum Kind: UInt32, Sendable {
    /// The guest's to use.
    case usable = 1
    /// Not to be touched.
    case reserved = 2
    /// ACPI tables: usable once they were read.
    case acpiTables = 3
    /// To be kept across sleep.
    case acpiNonvolatile = 4
  }

  /// One range.
  public struct Entry: Sendable, Equatable {
    /// First address.
    public let base: UInt64
    /// The first address behind it; never below `base`.
    public let end: UInt64
    /// What it is for.
    public let kind: Kind

    /// Bytes.
    public var size: UInt64 { end - base }

    init(_ base: UInt64, _ end: UInt64, _ kind: Kind) {
      self.base = base
      self.end = max(base, end)
      self.kind = kind
    }
  }

  /// Where conventional memory ends and the extended BIOS data area begins on a PC.
  public static let conventionalEnd: UInt64 = 0x9fc00
  /// Where video memory begins on a PC.
  public static let videoBase: UInt64 = 0xa_0000
  /// Where the system's firmware is on a PC, which has its tables there.
  public static let firmwareBase: UInt64 = 0xf_0000
  /// Where extended memory begins.
  public static let extendedBase: UInt64 = 0x10_0000

  /// In ascending order, not overlapping, none empty.
  public private(set) var entries: [Entry]

  /// The map of a machine with this RAM.
  public init(_ memory: GuestMemory) {
    entries = memory.regions.map { Entry($0.base.rawValue, $0.end, .usable) }
    reserve(from: Self.conventionalEnd, to: Self.videoBase)
    remove(from: Self.videoBase, to: Self.firmwareBase)
    reserve(from: Self.firmwareBase, to: Self.extendedBase)
  }

  /// Takes a range out of what was said about it before.
  public mutating func reserve(from base: UInt64, to end: UInt64, as kind: Kind = .reserved) {
    guard base < end else { return }
    remove(from: base, to: end)
    entries.append(Entry(base, end, kind))
    entries.sort { $0.base < $1.base }
  }

  /// Says nothing about a range.
  private mutating func remove(from base: UInt64, to end: UInt64) {
    entries = entries.flatMap { entry in
      [
        Entry(entry.base, min(entry.end, base), entry.kind), Entry(max(entry.base, end), entry.end, entry.kind),
      ].filter { $0.size > 0 }
    }
  }

  /// Whether all of a range is the guest's to use.
  public func isUsable(from base: UInt64, to end: UInt64) -> Bool {
    guard base < end else { return base == end }
    var position = base
    for entry in entries where entry.kind == .usable && entry.base <= position && position < entry.end {
      position = entry.end
      if position >= end { return true }
    }
    return false
  }

  /// The first usable address behind `base` that is not usable any more; `base` itself if it is not.
  public func usableEnd(from base: UInt64) -> UInt64 {
    var position = base
    for entry in entries where entry.kind == .usable && entry.base <= position && position < entry.end {
      position = entry.end
    }
    return position
  }
}
