/// By which door a Linux kernel is entered.
public enum LinuxEntry: String, Sendable, CaseIterable {
  /// Unpacked on the host and entered by PVH where the kernel has the note for it, else as packaged.
  case automatic = "auto"
  /// Unpacked on the host and entered by PVH, or refused.
  case pvh
  /// As packaged: the kernel unpacks itself in the guest.
  case bzImage = "bzimage"
}
