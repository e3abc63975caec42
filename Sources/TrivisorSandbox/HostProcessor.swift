import TrivisorCStub
import TrivisorVMM

/// What of the host's processor decides how guest code can trap.
extension HostProcessor {
  /// Whether user code can execute WRPKRU, which nothing can trap.
  public static let hasProtectionKeys = cstub_has_protection_keys() != 0

  /// Whether SYSENTER works in 64-bit mode, and SYSCALL in 32-bit code does not: Intel's processors. AMD's are the other
  /// way round (AMD64 APM vol. 3, SYSENTER; Intel SDM vol. 2, SYSCALL).
  public static let hasSYSENTER = current.vendor != .amd
}
