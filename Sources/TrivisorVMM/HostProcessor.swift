// What this host's processor can execute for a process: CPUID, and what the host's kernel has enabled of it.

import TrivisorCLinux
import Glibc

/// The processor that this process runs on.
public struct HostProcessor: Sendable {
  /// Whose processor it is, where that decides what instructions do.
  public enum Vendor: Sendable, Equatable {
    /// "GenuineIntel".
    case intel
    /// "AuthenticAMD", and "HygonGenuine", whose processors are AMD's.
    case amd
    /// Another one's, by its name.
    case other(String)
  }

  /// This host's.
  public static let current = HostProcessor { function, index in
    var words: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    clinux_identify(function, index, &words.0, &words.1, &words.2, &words.3)
    return CPUIDLeaf(function, index: index, eax: words.0, ebx: words.1, ecx: words.2, edx: words.3)
  } extendedControl: {
    clinux_extended_control()
  } hasSegmentBases: {
    // HWCAP2_FSGSBASE (Linux, arch/x86/include/uapi/asm/hwcap2.h): CR4.FSGSBASE is set.
    getauxval(UInt(AT_HWCAP2)) & 2 != 0
  }

  /// Whose processor it is.
  public let vendor: Vendor
  private let features: Set<ProcessorFeature>

  /// - Parameters:
  ///   - identify: CPUID.
  ///   - extendedControl: XCR0; asked for only if CPUID says that it can be read.
  ///   - hasSegmentBases: whether RDFSBASE and its like run at CPL 3.
  init(
    identify: (UInt32, UInt32) -> CPUIDLeaf, extendedControl: () -> UInt64, hasSegmentBases: () -> Bool
  ) {
    let first = identify(0, 0)
    let letters = [first.ebx, first.edx, first.ecx].flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    switch String(decoding: letters, as: UTF8.self) {
    case "GenuineIntel": vendor = .intel
    case "AuthenticAMD", "HygonGenuine": vendor = .amd
    case let name: vendor = .other(name)
    }
    let last: [UInt32: UInt32] = [0: first.eax, 0x8000_0000: identify(0x8000_0000, 0).eax]
    var features = Set(
      ProcessorFeature.allCases.filter { feature in
        let place = feature.location
        // Beyond the last function a processor may answer anything.
        guard place.function <= last[place.function & 0x8000_0000] ?? 0 else { return false }
        return identify(place.function, place.index)[place.register] >> UInt32(place.bit) & 1 != 0
      })
    // OSXSAVE: leaf 1, ECX bit 27. XCR0's bits 1 and 2 are SSE and AVX (AMD64 APM vol. 2, 11.5.2).
    let enabled = identify(1, 0).ecx >> 27 & 1 != 0 ? extendedControl() : 0
    if enabled & 6 != 6 { features.subtract([.avx, .avx2, .fma, .f16c]) }
    if enabled == 0 { features.subtract([.xsave, .xsaveopt]) }
    if !hasSegmentBases() { features.remove(.fsgsbase) }
    self.features = features
  }

  /// Whether a process can use it here.
  public func has(_ feature: ProcessorFeature) -> Bool { features.contains(feature) }
}
