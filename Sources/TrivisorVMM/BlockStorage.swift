/// What is on a disk, for guests whose disks are no devices of a machine's bus. Used on several threads.
public protocol BlockStorage: AnyObject, Sendable {
  /// In sectors of 512 bytes.
  var sectorCount: UInt64 { get }
  /// Whether writing is refused.
  var isReadOnly: Bool { get }

  /// Fills all of `bytes` from a sector on.
  /// - Returns: whether all of it could be read.
  func read(_ sector: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool
  /// Stores all of `bytes` from a sector on.
  /// - Returns: whether all of it could be written.
  func write(_ sector: UInt64, from bytes: UnsafeRawBufferPointer) -> Bool
  /// Makes everything written durable.
  /// - Returns: whether it is.
  func synchronize() -> Bool
  /// Says that sectors are not needed any more.
  /// - Returns: whether they exist.
  func forget(_ sector: UInt64, count: UInt64) -> Bool
  /// What a Xen domain calls it; by its position if `nil`.
  var domainName: DomainDiskName? { get }
}

extension BlockStorage {
  /// None of its own.
  public var domainName: DomainDiskName? { nil }
}
