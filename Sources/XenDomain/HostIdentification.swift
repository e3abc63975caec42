import CSharedWords

/// CPUID of the host, for a guest that asks the hypervisor for it instead of executing it.
enum HostIdentification {
  /// EAX, EBX, ECX, EDX.
  static func read(_ leaf: UInt32, _ subleaf: UInt32) -> (UInt32, UInt32, UInt32, UInt32) {
    var words: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    withUnsafeMutableBytes(of: &words) { bytes in
      if let start = bytes.baseAddress {
        host_identification(leaf, subleaf, start.assumingMemoryBound(to: UInt32.self))
      }
    }
    return words
  }
}
