/// Why guest code in a sandbox stopped.
public enum SandboxTrap: Sendable, Equatable {
  /// SYSCALL in 64-bit mode; its number is in RAX, and `rip` is the address behind the instruction.
  case systemCall(rip: UInt64)
  /// A system call by another way: INT 80h, with RIP behind it.
  case foreignSystemCall(architecture: UInt32)
  /// SYSENTER (Intel), or SYSCALL in 32-bit code (AMD): the host's kernel has lost RIP and CS. RSP is lost after
  /// SYSENTER, and so is the upper half of RAX; RCX after SYSCALL. Registers that are lost are 0.
  case lostSystemCall
  /// An exception of the processor. The error code and CR2 are the host's: of a page fault only the address can be used
  /// (of others it is 0), and of what else has an error code, only what the manuals say of user mode.
  case exception(vector: UInt8, errorCode: UInt64, address: UInt64)
  /// The host can't provide guest memory at this address, though it is mapped.
  case memoryFailure(address: UInt64)
  /// `kick()`, or nothing that the guest would know of.
  case interrupted
}

/// The sandbox is no more, or what it says makes no sense: the guest did that.
public struct SandboxEnded: Error, Sendable, Equatable, CustomStringConvertible {
  /// One sentence.
  public let description: String

  /// - Parameter description: one sentence, without a full stop.
  public init(_ description: String) { self.description = description }
}
