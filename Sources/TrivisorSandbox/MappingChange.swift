import TrivisorCStub
import Glibc

/// One change of what guest code in a sandbox can reach.
public struct MappingChange: Sendable, Equatable {
  /// What guest code may do with pages.
  public struct Access: OptionSet, Sendable {
    /// PROT_… bits.
    public let rawValue: UInt64

    /// - Parameter rawValue: PROT_… bits.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Loads, and what else is allowed.
    public init(writable: Bool, executable: Bool) {
      rawValue = UInt64(PROT_READ | (writable ? PROT_WRITE : 0) | (executable ? PROT_EXEC : 0))
    }

    /// Loads.
    public static let read = Access(rawValue: UInt64(PROT_READ))
    /// Stores.
    public static let write = Access(rawValue: UInt64(PROT_WRITE))
    /// Instruction fetches.
    public static let execute = Access(rawValue: UInt64(PROT_EXEC))
  }

  /// The first byte, a multiple of the page size.
  public var address: UInt64
  /// Bytes, a multiple of the page size.
  public var size: UInt64
  /// Where in guest memory's file, and what is allowed; `nil` removes what is mapped.
  public var target: Target?

  /// A piece of guest memory.
  public struct Target: Sendable, Equatable {
    /// Bytes from the start of the memory's file.
    public var fileOffset: UInt64
    /// What guest code may do there.
    public var access: Access

    /// - Parameter fileOffset: a multiple of the page size.
    public init(fileOffset: UInt64, access: Access) {
      self.fileOffset = fileOffset
      self.access = access
    }
  }

  /// - Parameter target: `nil` to remove what is mapped.
  public init(address: UInt64, size: UInt64, target: Target?) {
    self.address = address
    self.size = size
    self.target = target
  }

  /// The first address that guest code can't have.
  public static let addressLimit = cstubCode
}
