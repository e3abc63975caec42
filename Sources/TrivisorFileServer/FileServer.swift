// A folder of the host's, served to a guest's kernel by the FUSE protocol (Linux: include/uapi/linux/fuse.h, fs/fuse).
//
//     the guest's virtiofs ──request──▶ VirtioFileSystem ──▶ FileServer ──▶ NodeTable ──openat2, /proc/self/fd──▶ the host
//
// Both sides are hostile ground. The guest may ask for anything: its numbers are looked up, its names are single components,
// its sizes are bounded, and what it may cost in memory and descriptors is bounded. The host's tree may change between any two
// calls: nothing is reached by a path, but from a descriptor one name down, with RESOLVE_BENEATH and without following
// links; and what is opened is opened by O_PATH first, so that pipes and devices are known before anything happens to
// them, and then again through /proc/self/fd.
//
// What the host's user may not do, the server can't do either: it has no rights of its own.

import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// Serves one folder. Not synchronized: one thread at a time.
public final class FileServer {
  /// What became of a request.
  public enum Answer: Sendable, Equatable {
    /// So many bytes were stored for the guest; none for requests without a reply.
    case completed(UInt32)
    /// Not even an error can be given back.
    case malformed
  }

  /// Of the protocol. A minor version after this one brings nothing that is used here.
  static let majorVersion: UInt32 = 7
  static let minorVersion: UInt32 = 33
  /// Before this one, structures are shorter.
  private static let oldestMinorVersion: UInt32 = 23

  let folder: SharedFolder
  let nodes: NodeTable
  let limits: Limits
  var handles: [UInt64: OpenFile] = [:]
  var nextHandle: UInt64 = 1
  /// Inode numbers are the host's, with a mark of the file system above bit 48 where that is not the folder's own.
  private var devices: [UInt64: UInt64] = [:]
  let extraFiles: [FileName: SharedFolder.ExtraFile]
  /// Those that the guest has asked for.
  var extraNodes: [FileName: FileNode] = [:]
  private let hiddenFiles: Set<FileIdentity>
  var isInitialized = false

  /// Opens the folder.
  /// - Throws: `SharedFolderFailure`.
  public init(_ folder: SharedFolder, limits: Limits = Limits()) throws(SharedFolderFailure) {
    guard access("/proc/self/fd", X_OK) == 0 else {
      throw SharedFolderFailure(reason: "this host has no /proc, through which files are opened", isHosts: true)
    }
    let opened = folder.path.withPlatformString { Glibc.open($0, CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC) }
    guard opened >= 0 else {
      throw SharedFolderFailure(reason: "\(Errno(rawValue: errno))", isHosts: false)
    }
    var status = stat()
    var reason: String?
    var isHosts = false
    if fstat(opened, &status) != 0 {
      reason = "\(Errno(rawValue: errno))"
    } else if !FileSystemKinds.isOrdinary(opened, device: UInt64(status.st_dev)) {
      reason = "it lies in a file system that holds no ordinary files, such as /proc or /dev"
    } else {
      let probe = clinux_open_beneath(opened, ".", CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
      if probe < 0 {
        isHosts = errno == ENOSYS || errno == EPERM
        reason = isHosts ? "this host does not allow openat2(2) (Linux 5.6)" : "\(Errno(rawValue: errno))"
      } else {
        close(probe)
      }
    }
    if let reason {
      close(opened)
      throw SharedFolderFailure(reason: reason, isHosts: isHosts)
    }
    self.folder = folder
    self.limits = limits
    let (paths, identities) = Self.findHidden(folder)
    hiddenFiles = identities
    nodes = NodeTable(
      root: opened, status, hidden: paths, limit: limits.nodes, descriptorLimit: limits.cachedDescriptors)
    var extra: [FileName: SharedFolder.ExtraFile] = [:]
    for file in folder.extraFiles {
      if let name = try? FileName(Array(file.name.utf8)) { extra[name] = file }
    }
    extraFiles = extra
    devices[nodes.root.identity.device] = 0
  }

  /// Whether nothing of the folder can be changed.
  public var isReadOnly: Bool { folder.isReadOnly || folder.freshness == .snapshot }

  /// Names below the folder that are refused, and what they are by now: they may have other names, too.
  private static func findHidden(_ folder: SharedFolder) -> (HiddenPaths?, Set<FileIdentity>) {
    var paths: HiddenPaths?
    var identities: Set<FileIdentity> = []
    let root = realPath(folder.path) ?? folder.path
    for path in folder.hidden {
      var status = stat()
      if path.withPlatformString({ stat($0, &status) }) == 0 { identities.insert(FileIdentity(status)) }
      let place = realPath(path) ?? path
      guard place.starts(with: root) else { continue }
      let names = place.components.dropFirst(root.components.count)
      let components = names.compactMap { try? FileName(Array($0.string.utf8)) }
      guard components.count == names.count, !components.isEmpty else { continue }
      let tree = paths ?? HiddenPaths()
      tree.add(components[...])
      paths = tree
    }
    return (paths, identities)
  }

  private static func realPath(_ path: FilePath) -> FilePath? {
    guard let real = path.withPlatformString({ realpath($0, nil) }) else { return nil }
    defer { free(real) }
    return FilePath(platformString: real)
  }

  /// The guest's kernel is gone: forgets what it knew and closes what it had open.
  public func reset() {
    handles = [:]
    extraNodes = [:]
    nodes.reset()
    isInitialized = false
  }

  /// How much it holds: for tests.
  var usage: (nodes: Int, handles: Int) { (nodes.nodeCount, handles.count) }

  // MARK: Requests

  /// Carries out a request.
  /// - Parameters:
  ///   - pieces: what the guest's kernel wrote.
  ///   - room: for the reply.
  public func answer(_ pieces: inout BufferList, _ room: inout BufferList) -> Answer {
    guard var request = FileRequest(&pieces) else { return .malformed }
    let operation = FileOperation(rawValue: request.operation)
    if let operation, !operation.hasReply {
      forget(operation, &request, &pieces)
      return .completed(0)
    }
    guard var reply = FileReply(unique: request.unique, room: room) else { return .malformed }
    do throws(Errno) {
      guard let operation else { throw .noFunction }
      guard isInitialized || operation == .initialize else { throw .ioError }
      try carryOut(operation, &request, &pieces, &reply)
      return .completed(reply.finish(error: 0))
    } catch {
      return .completed(reply.finish(error: error.rawValue))
    }
  }

  private func carryOut(
    _ operation: FileOperation, _ request: inout FileRequest, _ pieces: inout BufferList, _ reply: inout FileReply
  ) throws(Errno) {
    if operation == .write { return try write(&request, &pieces, &reply) }
    try request.take(from: &pieces)
    switch operation {
    case .initialize: try initialize(&request, &reply)
    case .destroy: reset()
    case .lookup: try lookup(&request, &reply)
    case .getAttributes: try getAttributes(&request, &reply)
    case .setAttributes: try setAttributes(&request, &reply)
    case .readLink: try readLink(request, &reply)
    case .makeSymbolicLink: try makeSymbolicLink(&request, &reply)
    case .makeNode: try makeNode(&request, &reply)
    case .makeDirectory: try makeDirectory(&request, &reply)
    case .create: try create(&request, &reply)
    case .unlink: try remove(&request, flags: 0)
    case .removeDirectory: try remove(&request, flags: AT_REMOVEDIR)
    case .rename, .renameWithFlags: try rename(&request, hasFlags: operation == .renameWithFlags)
    case .link: try link(&request, &reply)
    case .open: try open(&request, &reply)
    case .openDirectory: try openDirectory(&request, &reply)
    case .read: try read(&request, &reply)
    case .readDirectory: try readDirectory(&request, &reply, withAttributes: false)
    case .readDirectoryPlus: try readDirectory(&request, &reply, withAttributes: true)
    case .release, .releaseDirectory: try release(&request)
    case .synchronize, .synchronizeDirectory: try synchronize(&request)
    case .allocate: try allocate(&request)
    case .seek: try seek(&request, &reply)
    case .statistics: try statistics(&reply)
    case .getExtendedAttribute: try getExtendedAttribute(&request, &reply)
    case .listExtendedAttributes: try listExtendedAttributes(&request, &reply)
    case .setExtendedAttribute: try setExtendedAttribute(&request)
    case .removeExtendedAttribute: try removeExtendedAttribute(&request)
    case .forget, .batchForget, .interrupt, .write: throw .noFunction
    }
  }

  /// Agrees on a version and on what both sides can do.
  private func initialize(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let major: UInt32 = try request.number()
    let minor: UInt32 = try request.number()
    guard major >= Self.majorVersion else { throw .protocolError }
    reset()
    reply.put(Self.majorVersion)
    reply.put(Self.minorVersion)
    if major > Self.majorVersion {
      // The guest is to ask again with what it is told.
      reply.put([UInt8](repeating: 0, count: 56))
      return
    }
    guard minor >= Self.oldestMinorVersion else { throw .protocolError }
    let readAhead: UInt32 = try request.number()
    let offered = UInt64(try request.number() as UInt32)
    var wanted =
      FileServerFeature.asyncRead | FileServerFeature.atomicTruncation | FileServerFeature.bigWrites
      | FileServerFeature.readDirectoryPlus | FileServerFeature.readDirectoryPlusAutomatically
      | FileServerFeature.asyncDirectIO | FileServerFeature.parallelDirectories | FileServerFeature.maximumPages
      | FileServerFeature.cachedSymbolicLinks | FileServerFeature.killsPrivileges
    if folder.freshness == .live { wanted |= FileServerFeature.automaticInvalidation }
    reply.put(readAhead)
    reply.put(UInt32(truncatingIfNeeded: offered & wanted))
    // Requests in the background, and where they count as too many.
    reply.put(UInt16(64))
    reply.put(UInt16(48))
    reply.put(UInt32(Self.transferLimit))
    // Times are exact to the nanosecond.
    reply.put(UInt32(1))
    reply.put(UInt16(Self.transferLimit >> 12))
    // map_alignment, flags2, unused.
    reply.put([UInt8](repeating: 0, count: 2 + 4 + 28))
    isInitialized = true
  }

  /// Bytes of one read or write.
  static let transferLimit = 1 << 20

  private func forget(_ operation: FileOperation, _ request: inout FileRequest, _ pieces: inout BufferList) {
    do throws(Errno) {
      try request.take(min(pieces.byteCount, FileRequest.argumentLimit), from: &pieces)
      switch operation {
      case .forget: nodes.forget(request.node, try request.number())
      case .batchForget:
        let count: UInt32 = try request.number()
        try request.skip(4)
        for _ in 0..<count {
          let node: UInt64 = try request.number()
          nodes.forget(node, try request.number())
        }
      default: break
      }
    } catch {
      // Shorter than it says it is: nobody waits for an answer.
    }
  }

  // MARK: What operations share

  func withDescriptor<Result>(
    of node: FileNode, _ body: (Int32) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try nodes.withDescriptor(of: node, openFile: { handles[$0]?.descriptor }, body)
  }

  func withDescriptor<Result>(
    of number: UInt64, _ body: (Int32) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try withDescriptor(of: try nodes.node(number), body)
  }

  func openFile(_ handle: UInt64, of number: UInt64) throws(Errno) -> OpenFile {
    guard let file = handles[handle], file.node.number == number else { throw .badFileDescriptor }
    return file
  }

  /// Keeps something that was opened; closes it where there is no room.
  func keep(_ descriptor: Int32, of node: FileNode, flags: Int32) throws(Errno) -> UInt64 {
    guard handles.count < limits.openFiles else {
      close(descriptor)
      throw .tooManyOpenFilesInSystem
    }
    let handle = nextHandle
    nextHandle += 1
    keep(OpenFile(node, descriptor, flags: flags), as: handle)
    return handle
  }

  func keep(_ file: OpenFile, as handle: UInt64) {
    handles[handle] = file
    file.node.handles.append(handle)
  }

  func refuseIfReadOnly() throws(Errno) {
    if isReadOnly { throw .readOnlyFileSystem }
  }

  /// Refuses whatever would make, remove or rename something under a name.
  func refuseChange(of name: FileName, in parent: FileNode) throws(Errno) {
    try refuseIfReadOnly()
    guard parent.kind == S_IFDIR else { throw .notDirectory }
    guard parent.backing == .host else { throw .permissionDenied }
    if parent === nodes.root, extraFiles[name] != nil { throw .notPermitted }
    // Nor what has something hidden below it: under another name it would not be hidden.
    if parent.hidden?.below[name] != nil { throw .permissionDenied }
  }

  func refuseHidden(_ name: FileName, in parent: FileNode) throws(Errno) {
    if parent.hidden?.below[name]?.isHidden ?? false { throw .permissionDenied }
  }

  func isHidden(_ identity: FileIdentity) -> Bool { hiddenFiles.contains(identity) }

  /// A file system's mark in inode numbers.
  func mark(of device: UInt64) -> UInt64 {
    if let mark = devices[device] { return mark << 48 }
    let mark = UInt64(devices.count % 0x7ff)
    if devices.count < 1 << 16 { devices[device] = mark }
    return mark << 48
  }

  /// How long the guest may rely on what it was told, in seconds.
  var validity: UInt64 { folder.freshness == .live ? 1 : 24 * 60 * 60 }

  /// The path of a descriptor, for calls that take no descriptor with O_PATH.
  static func path(_ descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

  /// Opens what an O_PATH descriptor stands for.
  static func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
    let opened = Glibc.open(path(descriptor), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
    guard opened >= 0 else { throw Errno(rawValue: errno) }
    return opened
  }
}
