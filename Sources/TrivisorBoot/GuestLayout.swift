// Who has which part of guest memory while a guest is loaded.
//
// The image says where most of it wants to be; our own structures (page tables, descriptor tables, information for the
// guest, modules) go where it is not. Both are claims in one list, so nothing can overwrite anything else, whatever an
// image asks for.

import Glibc
import TrivisorVMM

/// Guest memory being filled.
struct GuestLayout {
  private struct Claim {
    let base: UInt64
    let end: UInt64
    let owner: String
  }

  /// Which end of a window is tried first.
  enum Direction {
    case upwards, downwards
  }

  let memory: GuestMemory
  let map: MemoryMap
  /// The image's name, for failures.
  let image: String
  private var claims: [Claim] = []

  init(memory: GuestMemory, map: MemoryMap, image: String) {
    self.memory = memory
    self.map = map
    self.image = image
  }

  /// Conventional memory above the interrupt vectors and below the EBDA: where our own structures go first.
  static let conventional: Range<UInt64> = 0x1000..<MemoryMap.conventionalEnd
  /// The first 4 GiB, as far as 32-bit code reaches.
  static let below4GiB: Range<UInt64> = 0x1000..<0x1_0000_0000

  /// The addresses from `base` to `end`, the first 4 GiB at most; none if they are the wrong way round.
  static func window(from base: UInt64, to end: UInt64) -> Range<UInt64> {
    base..<max(base, min(end, below4GiB.upperBound))
  }

  /// Takes a range that the image asks for.
  /// - Parameter reservedToo: allow RAM that the guest is not told about, such as the ROM area.
  /// - Throws: `BootFailure` unless the range is RAM that nobody has.
  mutating func claim(_ base: UInt64, size: UInt64, for owner: String, reservedToo: Bool = false) throws(BootFailure) {
    let (end, wraps) = base.addingReportingOverflow(size)
    guard !wraps else { throw BootFailure(image, .wraps(part: owner, base: base, size: size)) }
    let isRAM =
      reservedToo ? memory.host(GuestPhysicalAddress(base), count: size) != nil : map.isUsable(from: base, to: end)
    guard isRAM, memory.host(GuestPhysicalAddress(base), count: size) != nil else {
      throw BootFailure(image, .outsideMemory(part: owner, base: base, size: size))
    }
    if let other = claims.first(where: { $0.base < end && base < $0.end }) {
      throw BootFailure(image, .overlap(part: owner, base: base, size: size, other: other.owner))
    }
    insert(Claim(base: base, end: end, owner: owner))
  }

  /// Finds and takes a free range.
  /// - Parameters:
  ///   - alignment: a power of two.
  ///   - windows: tried in this order.
  /// - Returns: its first address.
  mutating func place(
    _ owner: String, size: UInt64, alignment: UInt64, in windows: [(Range<UInt64>, Direction)]
  ) throws(BootFailure) -> UInt64 {
    let size = max(size, 1)
    for (window, direction) in windows {
      if let base = find(size, alignment, in: window, direction) {
        insert(Claim(base: base, end: base + size, owner: owner))
        return base
      }
    }
    throw BootFailure(
      image, .noRoom(part: owner, size: size, below: windows.map(\.0.upperBound).max() ?? 0))
  }

  /// The same for a structure of ours: in conventional memory where there is room, from its end, as far from what
  /// small guests use by habit as possible; else anywhere below 4 GiB.
  mutating func placeStructure(_ owner: String, size: UInt64, alignment: UInt64 = 4096) throws(BootFailure) -> UInt64 {
    try place(
      owner, size: size, alignment: alignment,
      in: [(Self.conventional, .downwards), (Self.below4GiB, .upwards)])
  }

  private mutating func insert(_ claim: Claim) {
    guard claim.base < claim.end else { return }
    let index = claims.firstIndex { $0.base > claim.base } ?? claims.endIndex
    claims.insert(claim, at: index)
  }

  private func find(_ size: UInt64, _ alignment: UInt64, in window: Range<UInt64>, _ direction: Direction) -> UInt64? {
    var best: UInt64?
    for entry in map.entries where entry.kind == .usable {
      let limit = min(entry.end, window.upperBound)
      var base = max(entry.base, window.lowerBound)
      // The gaps before each claim, then the one behind the last.
      for gap in claims.map({ (end: $0.base, next: $0.end) }) + [(end: limit, next: limit)] where gap.next >= base {
        if let found = fit(size, alignment, from: base, to: min(gap.end, limit), direction) {
          if direction == .upwards { return found }
          best = found
        }
        base = max(base, gap.next)
      }
    }
    return best
  }

  private func fit(
    _ size: UInt64, _ alignment: UInt64, from base: UInt64, to end: UInt64, _ direction: Direction
  ) -> UInt64? {
    guard base < end, size <= end - base else { return nil }
    let mask = alignment - 1
    switch direction {
    case .upwards:
      let (sum, overflow) = base.addingReportingOverflow(mask)
      let aligned = sum & ~mask
      return !overflow && aligned <= end && size <= end - aligned ? aligned : nil
    case .downwards:
      let aligned = (end - size) & ~mask
      return aligned >= base ? aligned : nil
    }
  }

  /// Stores a structure of ours: bytes, or integers in the host's order, which is the guest's.
  func store<Element: BitwiseCopyable>(_ elements: [Element], at address: UInt64, as part: String) throws(BootFailure) {
    let size = elements.count * MemoryLayout<Element>.stride
    guard let host = memory.host(GuestPhysicalAddress(address), count: UInt64(size)) else {
      throw BootFailure(image, .outsideMemory(part: part, base: address, size: UInt64(size)))
    }
    elements.withUnsafeBytes { source in
      if let base = source.baseAddress { host.copyMemory(from: base, byteCount: source.count) }
    }
  }

  /// Makes a range zero without touching pages that are zero already: fresh memory stays uncommitted, however large an
  /// image's BSS, and used memory (after a reset) is given back.
  func clear(_ base: UInt64, size: UInt64, as part: String) throws(BootFailure) {
    guard size > 0 else { return }
    guard let host = memory.host(GuestPhysicalAddress(base), count: size), let length = Int(exactly: size) else {
      throw BootFailure(image, .outsideMemory(part: part, base: base, size: size))
    }
    let page = Int(GuestMemory.pageSize)
    let head = min(length, (page - Int(bitPattern: host) % page) % page)
    let whole = (length - head) / page * page
    memset(host, 0, head)
    if whole > 0, madvise(host + head, whole, MADV_REMOVE) != 0 { memset(host + head, 0, whole) }
    memset(host + head + whole, 0, length - head - whole)
  }
}
