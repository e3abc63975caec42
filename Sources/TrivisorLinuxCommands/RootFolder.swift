import TrivisorBoot
import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorFileServer
import TrivisorVMM

/// A folder of the host's that is to be a guest's root: what is known of it before it is packed, and the archive.
struct RootFolder {
  /// What a large root is: from here on a person is told how far it is.
  private static let largeSize: UInt64 = 32 << 20
  /// What kernels and our tables take of the memory that archives can lie in.
  private static let kernelRoom: UInt64 = 128 << 20
  /// Where memory of a PC has its hole.
  private static let lowMemory: UInt64 = 3 << 30

  let path: FilePath
  let archive: BootImage
  let summary: InitialArchiveBuilder.Summary

  /// Looks through the folder, and stops as soon as it can't fit.
  /// - Parameters:
  ///   - others: what else is to be unpacked.
  ///   - memory: what the guest is to have, if the user said it.
  ///   - showProgress: told how many bytes of a large folder are packed, and of how many.
  /// - Throws: `WorkplaceRefusal`, `BootFailure`.
  init(
    _ path: FilePath, isImage: Bool = false, beside others: RootDemand, memory: UInt64?, kernel: LinuxIdentity,
    showProgress: (@Sendable (_ done: UInt64, _ total: UInt64) -> Void)?
  ) throws {
    self.path = path
    let archiveLimit = min(kernel.ramdiskLimit, Self.lowMemory) - Self.kernelRoom
    let hostMemory = HostMemory.available
    var problem: Sentence?
    var builder = InitialArchiveBuilder()
    var adjust: ((UnsafePointer<CChar>, inout stat) -> Void)?
    if isImage { adjust = { path, status in StoredAttributes.apply(path, to: &status) } }
    summary = try builder.addFolder(
      path,
      while: { demand in
        let all = demand + others
        let least = all.leastMemory
        if let memory, least > memory {
          problem = "\(Setting.memory) gives \(memory >> 20) MiB, where a copy in memory needs \(least >> 20) or more"
        } else if all.archives > archiveLimit {
          problem = "a kernel takes archives of \(archiveLimit >> 20) MiB at most"
        } else if let hostMemory, all.touched > hostMemory {
          problem =
            "a copy in memory needs \(all.touched >> 20) MiB or more, where this host has \(hostMemory >> 20) to give"
        }
        return problem == nil
      }, adjusting: adjust)
    guard let problem else {
      archive = Self.archive(of: path, builder, summary.contents, showProgress)
      return
    }
    // It was not read further than to here.
    throw WorkplaceRefusal(
      status: .usage,
      message:
        "\(Setting.root): \(path) holds \(summary.contents >> 20) MiB in \(summary.entries) entries or more, and \(problem);"
        + " name a smaller folder, give more memory, or give the root as a disk (\(Setting.disk))")
  }

  /// Whether a folder's own shell can be found in it: what its links say is taken from the folder on, as the guest will.
  static func hasShell(_ path: FilePath) -> Bool {
    let descriptor = path.withPlatformString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    let shell = clinux_open_in_root(descriptor, "bin/sh")
    if shell >= 0 { close(shell) }
    // Another error than this one says nothing: an older host has no such call.
    return shell >= 0 || ![ENOENT, ENOTDIR, ELOOP].contains(errno)
  }

  /// What is said of it.
  func announce(memory: UInt64, isChosen: Bool, say: (Sentence) -> Void) {
    if let first = summary.omissions.first {
      let others = summary.omissions.count > 1 ? ", and \(summary.omissions.count - 1) more" : ""
      say("\(Setting.root): left out: \(first.path) (\(first.reason))\(others)")
    }
    let found = "\(summary.entries) entries, \(summary.contents >> 20) MiB of files"
    say(
      "\(Setting.root): \(found); the guest gets \(memory >> 20) MiB of memory"
        + (isChosen ? "" : " (\(Setting.memory))"))
  }

  private static func archive(
    of path: FilePath, _ builder: consuming InitialArchiveBuilder, _ total: UInt64,
    _ showProgress: (@Sendable (_ done: UInt64, _ total: UInt64) -> Void)?
  ) -> BootImage {
    guard total >= largeSize, let showProgress else {
      return BootImage(name: path.string, archive: builder.finish())
    }
    let archive = builder.finish { read in
      // Every 16 MiB or so: each call has read a quarter of one.
      guard read & 0xff_ffff < 256 << 10 || read >= total else { return }
      showProgress(min(read, total), total)
    }
    return BootImage(name: path.string, archive: archive)
  }
}
