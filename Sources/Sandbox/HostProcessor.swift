import CStub

/// What of the host's processor decides how guest code can trap.
public enum HostProcessor {
  /// Whether user code can execute WRPKRU, which nothing can trap.
  public static let hasProtectionKeys = cstub_has_protection_keys() != 0

  /// Whether SYSENTER works in 64-bit mode, and SYSCALL in 32-bit code does not: Intel's processors. AMD's are the other
  /// way round (AMD64 APM vol. 3, SYSENTER; Intel SDM vol. 2, SYSCALL).
  public static let hasSYSENTER = !hasAMDsVendor

  /// "AuthenticAMD" and "HygonGenuine", as EBX has their beginning.
  private static var hasAMDsVendor: Bool {
    var words: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    withUnsafeMutableBytes(of: &words) { bytes in
      if let start = bytes.baseAddress { cstub_identification(0, 0, start.assumingMemoryBound(to: UInt32.self)) }
    }
    return words.1 == 0x6874_7541 || words.1 == 0x6f67_7948
  }
}
