import TrivisorVMM

/// How the frames of guest memory are numbered as machine frames of a Xen domain.
///
/// A domain sees two numberings: pseudo-physical frames, from 0 and without holes, and machine frames, which page tables
/// hold. Here they differ by a constant, so that a guest that mixes them up is found out. The last frames of guest memory are
/// the hypervisor's:
///
///     the domain's own │ machine-to-physical table │ grants │ status of grants │ shared_info
public enum XenMachine {
  /// The machine frame of the first page of guest memory.
  public static let firstFrame: UInt64 = 0x1000

  /// As many frames of grants as Xen's tools give, in a domain that is large enough for them.
  private static let mostGrantFrames: UInt64 = 64
  private static let framesForOneOfGrants: UInt64 = 128

  private static func count(_ memory: GuestMemory) -> UInt64 { memory.size / GuestMemory.pageSize }

  private static func grantFrameCount(_ memory: GuestMemory) -> UInt64 {
    min(mostGrantFrames, max(1, count(memory) / framesForOneOfGrants))
  }

  /// Of version 2: two bytes for each of 256 entries a frame.
  private static func grantStatusFrameCount(_ memory: GuestMemory) -> UInt64 { (grantFrameCount(memory) + 7) / 8 }

  /// The table has an entry for each frame from 0 on: of 8 bytes in 64-bit domains, and of 4 in others, which leave the rest.
  private static func tableFrameCount(_ memory: GuestMemory) -> UInt64 {
    ((firstFrame + count(memory)) * 8 + GuestMemory.pageSize - 1) / GuestMemory.pageSize
  }

  /// How many frames the domain itself has; none where memory is too small for what is the hypervisor's.
  public static func domainFrameCount(_ memory: GuestMemory) -> UInt64 {
    let needed = 1 + grantFrameCount(memory) + grantStatusFrameCount(memory) + tableFrameCount(memory)
    return count(memory) - min(count(memory), needed)
  }

  /// The machine frames of the machine-to-physical table, from frame 0's entry on.
  public static func tableFrames(_ memory: GuestMemory) -> Range<UInt64> {
    let first = firstFrame + domainFrameCount(memory)
    return first..<(first + tableFrameCount(memory))
  }

  /// The machine frames of the grant table; how many of them there are is the domain's affair.
  public static func grantFrames(_ memory: GuestMemory) -> Range<UInt64> {
    let first = tableFrames(memory).upperBound
    return first..<(first + grantFrameCount(memory))
  }

  /// The machine frames of what version 2 of grants says of their use.
  public static func grantStatusFrames(_ memory: GuestMemory) -> Range<UInt64> {
    let first = grantFrames(memory).upperBound
    return first..<(first + grantStatusFrameCount(memory))
  }

  /// The machine frame of shared_info.
  public static func sharedInfoFrame(_ memory: GuestMemory) -> UInt64 { grantStatusFrames(memory).upperBound }

  /// The event channel that the domain builder binds to xenstore.
  public static let storePort: UInt32 = 1
  /// And to the console.
  public static let consolePort: UInt32 = 2
}
