import VMM

/// How the frames of guest memory are numbered as machine frames of a Xen domain.
///
/// A domain sees two numberings: pseudo-physical frames, from 0 and without holes, and machine frames, which page tables
/// hold. Here they differ by a constant, so that a guest that mixes them up is found out. The last two frames of guest
/// memory are the hypervisor's: the grant table and shared_info.
public enum XenMachine {
  /// The machine frame of the first page of guest memory.
  public static let firstFrame: UInt64 = 0x1000

  /// How many frames the domain itself has.
  public static func domainFrameCount(_ memory: GuestMemory) -> UInt64 { memory.size / GuestMemory.pageSize - 2 }

  /// The machine frame of the grant table.
  public static func grantTableFrame(_ memory: GuestMemory) -> UInt64 { firstFrame + domainFrameCount(memory) }

  /// The machine frame of shared_info.
  public static func sharedInfoFrame(_ memory: GuestMemory) -> UInt64 { grantTableFrame(memory) + 1 }

  /// The event channel that the domain builder binds to xenstore.
  public static let storePort: UInt32 = 1
  /// And to the console.
  public static let consolePort: UInt32 = 2
}
