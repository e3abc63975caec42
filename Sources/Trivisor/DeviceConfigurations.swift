import Glibc
import TrivisorDevices
import TrivisorFileServer
import TrivisorPlatform

/// A serial port, 16550A; a PC's first is COM1, Linux' ttyS0.
public struct SerialPortConfiguration: Sendable {
  /// What the guest writes goes here.
  public var output: OutputAttachment
  /// What the guest reads comes from here. Only the first console can have an input.
  public var input: InputAttachment?

  /// - Parameter input: for the machine's first console.
  public init(output: OutputAttachment, input: InputAttachment? = nil) {
    self.output = output
    self.input = input
  }

  /// A port, and what the guest writes to it as the reading end of a pipe, which ends with the run.
  /// - Throws: what the host answers when it has no more descriptors.
  public static func pipe(input: InputAttachment? = nil) throws -> (port: Self, output: FileDescriptor) {
    let (reader, writer) = try FileDescriptor.pipe()
    for end in [reader, writer] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
    return (Self(output: .fileDescriptor(writer, closesWhenOver: true), input: input), reader)
  }
}

/// A virtio console, Linux' hvc0.
public struct VirtioConsoleConfiguration: Sendable {
  /// What the guest writes goes here.
  public var output: OutputAttachment
  /// What the guest reads comes from here.
  public var input: InputAttachment?
  /// What the guest is told of the terminal: columns and rows.
  public var size: (columns: UInt16, rows: UInt16)?

  /// - Parameter size: what the guest is told of the terminal.
  public init(
    output: OutputAttachment, input: InputAttachment? = nil, size: (columns: UInt16, rows: UInt16)? = nil
  ) {
    self.output = output
    self.input = input
    self.size = size
  }
}

/// A disk: virtio block, or a Xen domain's; raw image files and block devices are what can be attached.
public struct StorageDeviceConfiguration: Sendable, Equatable {
  /// The image, or the block device.
  public var path: FilePath
  /// Whether the guest's writes are refused: then several machines may have it.
  public var isReadOnly: Bool

  /// - Parameter isReadOnly: whether the guest's writes are refused.
  public init(path: FilePath, isReadOnly: Bool = false) {
    self.path = path
    self.isReadOnly = isReadOnly
  }
}

/// A folder of the host's, by virtio-fs.
public struct DirectorySharingDeviceConfiguration: Sendable, Equatable {
  /// On the host.
  public var path: FilePath
  /// By which name the guest mounts it; at most 36 bytes, without a colon.
  public var tag: String
  /// Whether the guest's changes are refused.
  public var isReadOnly: Bool
  /// Where a guest that runs a `LinuxCommand` finds it; /mnt/TAG when `nil`.
  public var mountPoint: String?

  /// - Parameters:
  ///   - tag: at most 36 bytes, without a colon.
  ///   - isReadOnly: whether the guest's changes are refused.
  ///   - mountPoint: for a guest that runs a `LinuxCommand`.
  public init(path: FilePath, tag: String, isReadOnly: Bool = false, mountPoint: String? = nil) {
    self.path = path
    self.tag = tag
    self.isReadOnly = isReadOnly
    self.mountPoint = mountPoint
  }
}

/// A virtio source of random numbers.
public struct EntropyDeviceConfiguration: Sendable, Equatable {
  /// The host's getrandom(2).
  public init() {}
}
