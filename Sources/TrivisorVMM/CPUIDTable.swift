// CPUID for a named model: every bit written here, none taken from the host.

/// One answer of CPUID.
public struct CPUIDLeaf: Sendable, Equatable {
  /// EAX and ECX of the query.
  public var function: UInt32, index: UInt32
  /// Whether ECX matters for this function.
  public var isIndexed: Bool
  /// The answer.
  public var eax: UInt32, ebx: UInt32, ecx: UInt32, edx: UInt32

  /// Zero but for what is given.
  public init(
    _ function: UInt32, index: UInt32? = nil, eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0
  ) {
    self.function = function
    self.index = index ?? 0
    self.isIndexed = index != nil
    (self.eax, self.ebx, self.ecx, self.edx) = (eax, ebx, ecx, edx)
  }

  /// One of the four results.
  public subscript(register: CPUIDRegister) -> UInt32 {
    get {
      switch register {
      case .eax: eax
      case .ebx: ebx
      case .ecx: ecx
      case .edx: edx
      }
    }
    set {
      switch register {
      case .eax: eax = newValue
      case .ebx: ebx = newValue
      case .ecx: ecx = newValue
      case .edx: edx = newValue
      }
    }
  }
}

/// The answers of CPUID for one processor of a machine.
public struct CPUIDTable: Sendable, Equatable {
  /// Ascending by function and index.
  public var leaves: [CPUIDLeaf]

  /// Leaves from elsewhere, such as a host's own.
  public init(leaves: [CPUIDLeaf]) { self.leaves = leaves }

  /// A table that announces exactly `features`.
  /// - Parameters:
  ///   - processor: its index, which is its APIC ID.
  ///   - count: of the machine: one socket, one thread a core.
  ///   - name: shown as the brand string, at most 47 ASCII characters.
  ///   - family: the processor that it is one of.
  ///   - protectionKeysOffset: where XSAVE puts PKRU: behind YMM's upper halves, or where the host's processor does.
  public init(
    features: Set<ProcessorFeature>, processor: Int, of count: Int, name: String, family: ProcessorFamily = .family1A,
    protectionKeysOffset: UInt32 = 832
  ) {
    let apicID = UInt32(truncatingIfNeeded: processor)
    // "AuthenticAMD" (AMD64 APM vol. 3, E.3.1 and E.3.2).
    let vendor = (ebx: UInt32(0x6874_7541), ecx: UInt32(0x444d_4163), edx: UInt32(0x6974_6e65))
    let signature = family.signature
    var leaves = [
      CPUIDLeaf(0, eax: 0xd, ebx: vendor.ebx, ecx: vendor.ecx, edx: vendor.edx),
      // EBX: APIC ID, logical processors, CLFLUSH size in quadwords.
      CPUIDLeaf(1, eax: signature, ebx: apicID << 24 | UInt32(min(count, 255)) << 16 | 8 << 8),
      CPUIDLeaf(7, index: 0),
      // Topology (E.3.10): one thread a core, `count` cores a package.
      CPUIDLeaf(0xb, index: 0, ebx: 1, ecx: 0x100, edx: apicID),
      CPUIDLeaf(0xb, index: 1, eax: Self.bits(for: count), ebx: UInt32(count), ecx: 0x201, edx: apicID),
      CPUIDLeaf(0xb, index: 2, ecx: 2, edx: apicID),
      CPUIDLeaf(0x8000_0000, eax: Self.lastExtendedLeaf, ebx: vendor.ebx, ecx: vendor.ecx, edx: vendor.edx),
      CPUIDLeaf(0x8000_0001, eax: signature),
      CPUIDLeaf(0x8000_0007),
      // 48-bit linear, 40-bit physical addresses; cores less one, and the width of their IDs.
      CPUIDLeaf(
        0x8000_0008, eax: 0x3028, ecx: Self.bits(for: count) << 12 | UInt32(min(count, 256) - 1)),
      CPUIDLeaf(Self.lastExtendedLeaf),
    ]
    leaves += Self.caches(of: count)
    // The core's number, one thread, one node (E.4.17).
    if features.contains(.topoext) { leaves.append(CPUIDLeaf(0x8000_001e, eax: apicID, ebx: apicID & 0xff)) }
    if features.contains(.xsave) {
      // Components x87, SSE and, with AVX, the upper halves: 256 bytes at 576; PKRU, 8 bytes (E.3.6). EBX follows XCR0 at run
      // time.
      let (avx, keys) = (features.contains(.avx), features.contains(.pku))
      let size = keys ? protectionKeysOffset + 8 : avx ? 832 : 576
      leaves.append(CPUIDLeaf(0xd, index: 0, eax: (avx ? 7 : 3) | (keys ? 1 << 9 : 0), ebx: 576, ecx: size))
      leaves.append(CPUIDLeaf(0xd, index: 1))
      if avx { leaves.append(CPUIDLeaf(0xd, index: 2, eax: 256, ebx: 576)) }
      if keys { leaves.append(CPUIDLeaf(0xd, index: 9, eax: 8, ebx: protectionKeysOffset)) }
    }
    let brand = Array(("Trivisor " + name).utf8.prefix(47)) + [0]
    for leaf in 0..<3 {
      let words = (0..<4).map { word -> UInt32 in
        (0..<4).reduce(0) { value, byte in
          let position = 16 * leaf + 4 * word + byte
          return value | (position < brand.count ? UInt32(brand[position]) << UInt32(8 * byte) : 0)
        }
      }
      leaves.append(
        CPUIDLeaf(0x8000_0002 + UInt32(leaf), eax: words[0], ebx: words[1], ecx: words[2], edx: words[3]))
    }
    leaves.sort { ($0.function, $0.index) < ($1.function, $1.index) }
    self.leaves = leaves
    var features = features
    if count > 1 { features.insert(.ht) }
    for feature in features { self.set(feature) }
    // AMD repeats the basic features in the extended leaf (E.4.2): bits 0–9, 12–17, 23 and 24.
    let repeated: UInt32 = 0x0183_f3ff
    if let basic = position(1, 0), let extended = position(0x8000_0001, 0) {
      self.leaves[extended].edx |= self.leaves[basic].edx & repeated
      // CmpLegacy: the logical processors are cores.
      if count > 1 { self.leaves[extended].ecx |= 2 }
    }
  }

  /// The answer to a query, if it is in the table.
  public func leaf(_ function: UInt32, index: UInt32 = 0) -> CPUIDLeaf? {
    position(function, index).map { leaves[$0] }
  }

  /// Whether the table announces it.
  public func has(_ feature: ProcessorFeature) -> Bool {
    let location = feature.location
    guard let leaf = leaf(location.function, index: location.index) else { return false }
    return leaf[location.register] & 1 << UInt32(location.bit) != 0
  }

  private mutating func set(_ feature: ProcessorFeature) {
    let location = feature.location
    guard let position = position(location.function, location.index) else { return }
    leaves[position][location.register] |= 1 << UInt32(location.bit)
  }

  private func position(_ function: UInt32, _ index: UInt32) -> Int? {
    leaves.firstIndex { $0.function == function && (!$0.isIndexed || $0.index == index) }
  }

  /// With what says of returns and branches that they need no care.
  private static let lastExtendedLeaf: UInt32 = 0x8000_0021

  /// TLBs and caches of one core of family 1Ah, and the third level, which eight cores share (E.4.4, E.4.5 and E.4.16).
  private static func caches(of count: Int) -> [CPUIDLeaf] {
    struct Cache {
      /// 1 data, 2 instructions, 3 both.
      let kind: UInt32
      let level: UInt32, ways: UInt32, sets: UInt32, sharing: UInt32
    }
    let sharing = UInt32(min(8, 1 << Int(bits(for: count))))
    let caches = [
      Cache(kind: 1, level: 1, ways: 12, sets: 64, sharing: 1),
      Cache(kind: 2, level: 1, ways: 8, sets: 64, sharing: 1),
      Cache(kind: 3, level: 2, ways: 16, sets: 1024, sharing: 1),
      Cache(kind: 3, level: 3, ways: 16, sets: 32768, sharing: sharing),
    ]
    let lineSize: UInt32 = 64, selfInitializing: UInt32 = 1 << 8
    var leaves = [
      // Fully associative TLBs of 64 and 96 entries; 48 KiB of data and 32 KiB of code, lines of 64 bytes.
      CPUIDLeaf(0x8000_0005, eax: 0xff60_ff40, ebx: 0xff60_ff40, ecx: 0x300c_0140, edx: 0x2008_0140),
      // Eight-way TLBs of 1024 and 2048 entries; 1 MiB, and 32 MiB in units of 512 KiB.
      CPUIDLeaf(0x8000_0006, eax: 0x6800_6400, ebx: 0x6800_6400, ecx: 0x0400_8140, edx: 64 << 18 | 0x9140),
    ]
    for (index, cache) in caches.enumerated() {
      leaves.append(
        CPUIDLeaf(
          0x8000_001d, index: UInt32(index),
          eax: cache.kind | cache.level << 5 | selfInitializing | (cache.sharing - 1) << 14,
          ebx: lineSize - 1 | (cache.ways - 1) << 22, ecx: cache.sets - 1))
    }
    return leaves
  }

  /// How many bits number `count` things.
  private static func bits(for count: Int) -> UInt32 {
    count <= 1 ? 0 : UInt32(Int.bitWidth - (count - 1).leadingZeroBitCount)
  }
}
