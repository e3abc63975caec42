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
  /// Whether what the guest writes ends with the run, and the image stays as it is: then, too, several machines may have it.
  /// The changes are in a file without a name, in the folder TMPDIR or /var/tmp.
  public var isSnapshot: Bool
  /// Queues of requests, 1 to 16: so many are carried out at a time. As many as processors, at most 4, when `nil`.
  public var queueCount: Int?
  /// What a Xen domain calls it, by which its kernel's driver finds it: xvda to xvdp, hda to hdd or sda to sdp. The first without a
  /// name of its own is xvda, and so on, when `nil`.
  public var domainName: String?

  /// - Parameters:
  ///   - isReadOnly: whether the guest's writes are refused.
  ///   - isSnapshot: whether what the guest writes ends with the run; not together with `isReadOnly`.
  ///   - queueCount: 1 to 16.
  ///   - domainName: for the paravirtual technique only.
  public init(
    path: FilePath, isReadOnly: Bool = false, isSnapshot: Bool = false, queueCount: Int? = nil,
    domainName: String? = nil
  ) {
    self.domainName = domainName
    self.path = path
    self.isReadOnly = isReadOnly
    self.isSnapshot = isSnapshot
    self.queueCount = queueCount
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

/// Virtio sockets (AF_VSOCK) between programs of the host's and of the guest's, with Firecracker's convention: a program of
/// the host's connects to the Unix socket, writes "CONNECT port" and a newline, and reads "OK" with a port; the guest's
/// connections to the host's port P go to who listens at the same path with "_P" behind it.
public struct SocketDeviceConfiguration: Sendable, Equatable {
  /// Of the Unix socket, which is made when the machine is, and goes with it.
  public var path: FilePath
  /// The guest's address, 3 to 4294967293.
  public var contextIdentifier: UInt64

  /// - Parameter contextIdentifier: 3 to 4294967293.
  public init(path: FilePath, contextIdentifier: UInt64 = 3) {
    self.path = path
    self.contextIdentifier = contextIdentifier
  }
}

/// A balloon in the guest's memory: what is in it, and what the guest reports as free, goes back to the host.
public struct MemoryBalloonDeviceConfiguration: Sendable, Equatable {
  /// What is taken from the guest at first; `VirtualMachine.resizeMemoryBalloon(to:)` changes it.
  public var size: ByteCount

  /// - Parameter size: may be zero.
  public init(size: ByteCount = ByteCount(bytes: 0)) { self.size = size }
}

/// A virtio source of random numbers.
public struct EntropyDeviceConfiguration: Sendable, Equatable {
  /// The host's getrandom(2).
  public init() {}
}
