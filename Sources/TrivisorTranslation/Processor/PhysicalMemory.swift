import TrivisorVMM

/// RAM as page tables name it. All of it lies in one mapping of this process; physical addresses have at most one gap.
package struct PhysicalMemory: @unchecked Sendable {
  // Unchecked: the mapping outlives whoever has this, and what is in it is the guest's affair.

  /// Physical addresses that follow each other.
  package struct Piece: Sendable {
    let base, size: UInt64

    /// The first address behind it; 0 for none.
    var end: UInt64 { size == 0 ? 0 : base &+ size }
  }

  /// The second may be empty.
  let pieces: (Piece, Piece)
  private let start: UnsafeMutableRawPointer

  /// As a PC has it, with a gap for devices.
  package init(_ memory: GuestMemory) {
    let regions = memory.regions
    let second = regions.count > 1 ? regions[1] : nil
    pieces = (
      Piece(base: regions[0].base.rawValue, size: regions[0].size),
      Piece(base: second?.base.rawValue ?? 0, size: second?.size ?? 0)
    )
    start = regions[0].host
  }

  /// Without a gap, from an address on.
  package init(_ memory: GuestMemory, from base: UInt64) {
    pieces = (Piece(base: base, size: memory.size), Piece(base: 0, size: 0))
    start = memory.regions[0].host
  }

  /// The first address behind all of it.
  var end: UInt64 { max(pieces.0.end, pieces.1.end) }

  /// Where bytes are in this process, if all of them are RAM of one piece.
  @inline(__always)
  func host(_ physical: UInt64, count: UInt64) -> UnsafeMutableRawPointer? {
    let offset = physical &- pieces.0.base
    if offset < pieces.0.size, count <= pieces.0.size &- offset { return start + Int(offset) }
    let second = physical &- pieces.1.base
    guard second < pieces.1.size, count <= pieces.1.size &- second else { return nil }
    return start + Int(pieces.0.size &+ second)
  }

  /// The physical address of a byte of it.
  @inline(__always)
  func physical(_ host: UInt64) -> UInt64 {
    let offset = host &- UInt64(UInt(bitPattern: start))
    return offset < pieces.0.size ? pieces.0.base &+ offset : pieces.1.base &+ (offset &- pieces.0.size)
  }

  /// The same of any byte of this process; `nil` for one that is not the guest's.
  func physical(_ host: UnsafeMutableRawPointer) -> UInt64? {
    guard host >= start, host < start + Int(pieces.0.size &+ pieces.1.size) else { return nil }
    return physical(UInt64(UInt(bitPattern: host)))
  }
}
