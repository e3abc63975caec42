// A folder of the host's, served to a guest's kernel by the FUSE protocol (Linux: include/uapi/linux/fuse.h, fs/fuse).
//
//     the guest's virtiofs ──request──▶ VirtioFileSystem ──▶ FileServer ──▶ FileShare, NodeTable ──openat2, /proc/self/fd──▶ the host
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

  let share: FileShare
  private let lookups: FileLookups
  private let contents: FileContents
  private let changes: FileChanges
  private let extendedAttributes: ExtendedAttributes
  var isInitialized = false

  /// Opens the folder.
  /// - Throws: `SharedFolderFailure`.
  public init(_ folder: SharedFolder, limits: Limits = Limits()) throws(SharedFolderFailure) {
    share = try FileShare(folder, limits: limits)
    lookups = FileLookups(share: share)
    contents = FileContents(share: share)
    changes = FileChanges(share: share)
    extendedAttributes = ExtendedAttributes(share: share)
  }

  /// Whether nothing of the folder can be changed.
  public var isReadOnly: Bool { share.isReadOnly }

  /// The guest's kernel is gone: forgets what it knew and closes what it had open.
  public func reset() {
    share.reset()
    isInitialized = false
  }

  /// How much it holds: for tests.
  var usage: (nodes: Int, handles: Int) { (share.nodes.nodeCount, share.handles.count) }

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
    if operation == .write { return try contents.write(&request, &pieces, &reply) }
    try request.take(from: &pieces)
    switch operation {
    case .initialize: try initialize(&request, &reply)
    case .destroy: reset()
    case .lookup: try lookups.lookup(&request, &reply)
    case .getAttributes: try lookups.getAttributes(&request, &reply)
    case .setAttributes: try changes.setAttributes(&request, &reply)
    case .readLink: try lookups.readLink(request, &reply)
    case .makeSymbolicLink: try changes.makeSymbolicLink(&request, &reply)
    case .makeNode: try changes.makeNode(&request, &reply)
    case .makeDirectory: try changes.makeDirectory(&request, &reply)
    case .create: try contents.create(&request, &reply)
    case .unlink: try changes.remove(&request, flags: 0)
    case .removeDirectory: try changes.remove(&request, flags: AT_REMOVEDIR)
    case .rename, .renameWithFlags: try changes.rename(&request, hasFlags: operation == .renameWithFlags)
    case .link: try changes.link(&request, &reply)
    case .open: try contents.open(&request, &reply)
    case .openDirectory: try contents.openDirectory(&request, &reply)
    case .read: try contents.read(&request, &reply)
    case .readDirectory: try contents.readDirectory(&request, &reply, withAttributes: false)
    case .readDirectoryPlus: try contents.readDirectory(&request, &reply, withAttributes: true)
    case .release, .releaseDirectory: try contents.release(&request)
    case .synchronize, .synchronizeDirectory: try contents.synchronize(&request)
    case .allocate: try contents.allocate(&request)
    case .seek: try contents.seek(&request, &reply)
    case .statistics: try lookups.statistics(&reply)
    case .getExtendedAttribute: try extendedAttributes.getExtendedAttribute(&request, &reply)
    case .listExtendedAttributes: try extendedAttributes.listExtendedAttributes(&request, &reply)
    case .setExtendedAttribute: try extendedAttributes.setExtendedAttribute(&request)
    case .removeExtendedAttribute: try extendedAttributes.removeExtendedAttribute(&request)
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
    if share.folder.freshness == .live { wanted |= FileServerFeature.automaticInvalidation }
    reply.put(readAhead)
    reply.put(UInt32(truncatingIfNeeded: offered & wanted))
    // Requests in the background, and where they count as too many.
    reply.put(UInt16(64))
    reply.put(UInt16(48))
    reply.put(UInt32(FileShare.transferLimit))
    // Times are exact to the nanosecond.
    reply.put(UInt32(1))
    reply.put(UInt16(FileShare.transferLimit >> 12))
    // map_alignment, flags2, unused.
    reply.put([UInt8](repeating: 0, count: 2 + 4 + 28))
    isInitialized = true
  }

  private func forget(_ operation: FileOperation, _ request: inout FileRequest, _ pieces: inout BufferList) {
    do throws(Errno) {
      try request.take(min(pieces.byteCount, FileRequest.argumentLimit), from: &pieces)
      switch operation {
      case .forget: share.nodes.forget(request.node, try request.number())
      case .batchForget:
        let count: UInt32 = try request.number()
        try request.skip(4)
        for _ in 0..<count {
          let node: UInt64 = try request.number()
          share.nodes.forget(node, try request.number())
        }
      default: break
      }
    } catch {
      // Shorter than it says it is: nobody waits for an answer.
    }
  }
}
