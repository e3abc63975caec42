import TrivisorVMM
import TrivisorX86

/// What control state has to do with CPUID (AMD64 APM vol. 3, E.3.2, E.3.6 and E.3.8).
extension CPUIDTable {
  /// The leaf with OSXSAVE and APIC.
  static let featureLeaf: UInt32 = 1
  /// In its ECX: CR4.OSXSAVE is on.
  static let osXSAVE: UInt32 = 1 << 27
  /// The leaf with OSPKE, in its subleaf 0.
  static let extendedFeatureLeaf: UInt32 = 7
  /// In its ECX: CR4.PKE is on.
  static let osProtectionKeys: UInt32 = 1 << 4
  /// In the feature leaf's EDX: the local APIC is on.
  static let localAPIC: UInt32 = 1 << 9
  /// The leaf with XSAVE's sizes, in its subleaf 0.
  static let extendedStateLeaf: UInt32 = 0xd

  /// What XCR0 may enable.
  var stateComponents: XCR0 {
    guard has(.xsave) else { return .x87 }
    var components: XCR0 = [.x87, .sse]
    if has(.avx) { components.insert(.avx) }
    if has(.pku) { components.insert(.protectionKeys) }
    return components
  }
}
