// Linux as a host for one command: `trivisor run KERNEL --exec COMMAND [--root FOLDER]`.
//
// The kernel gets its first root from archives, one over the other: those of --initrd, the folder of --root, and a small one
// of ours, with a first process that runs the command and hands its status on (guests/linux/init.swift). Without a root it
// is the host's busybox, which must be static: then nothing else is needed.

import Boot
import EmbeddedGuests
import Glibc
import Platform
import SystemPackage
import VMM

/// Makes a boot request run a command.
struct LinuxCommandHost {
  /// What a large root is: from here on a person is told how far it is.
  private static let largeSize: UInt64 = 32 << 20
  /// For a kernel and a little work beside its root.
  private static let baseMemory: UInt64 = 256 << 20

  /// Run by the root's shell; `nil` if the root's own first process is to run.
  let command: String?
  /// A folder to be the root.
  let root: FilePath?
  var isVerbose = false

  init(command: String?, root: FilePath?) {
    self.command = command
    self.root = root
  }

  /// Adds archives and words for the kernel.
  /// - Returns: how much memory the guest needs.
  /// - Throws: `Refusal`, `BootFailure`.
  func prepare(_ request: inout BootRequest) throws -> MemorySize {
    var needsBusybox = false
    if let root {
      request.initialRamdisks.append(try archive(of: root))
    } else if request.initialRamdisks.isEmpty {
      needsBusybox = true
    }
    if let command {
      guard !command.utf8.contains(0) else {
        throw Refusal(status: .usage, message: "--exec: the command holds a zero byte")
      }
      request.initialRamdisks.append(try ownArchive(command, withBusybox: needsBusybox))
      // The console is the command's: of the kernel only what is critical. The user's words come behind, and prevail.
      let words = "quiet loglevel=3 rdinit=/.trivisor/init"
      request.commandLine = request.commandLine.isEmpty ? words : words + " " + request.commandLine
    }
    // The archive and what is unpacked from it are there at the same time.
    let archives = request.initialRamdisks.reduce(UInt64(0)) { $0 + $1.size }
    return MemorySize(bytes: Self.baseMemory + (archives * 5 / 2 + 0xf_ffff) & ~0xf_ffff)
  }

  private func ownArchive(_ command: String, withBusybox: Bool) throws -> BootImage {
    var builder = InitialArchiveBuilder()
    builder.addDirectory("dev")
    // The kernel opens this for the first process before anything can be mounted.
    builder.addCharacterDevice("dev/console", major: 5, minor: 1)
    if withBusybox {
      builder.addDirectory("bin")
      try builder.addHostFile("bin/busybox", at: try Self.busybox(), mode: 0o755)
    }
    builder.addDirectory(".trivisor", mode: 0o700)
    builder.addFile(".trivisor/init", Array(EmbeddedGuest.linuxInit), mode: 0o700)
    let options = (isatty(STDIN_FILENO) != 0 ? "t" : "") + (withBusybox ? "b" : "")
    let terminal = getenv("TERM").map { String(cString: $0) } ?? "dumb"
    let environment = [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root",
      "TERM=\(terminal)",
    ]
    let order = ([options, command] + environment).flatMap { text -> [UInt8] in Array(text.utf8) + [0] }
    guard order.count < 100_000 else { throw Refusal(status: .usage, message: "--exec: the command is too long") }
    builder.addFile(".trivisor/order", order, mode: 0o600)
    return BootImage(name: "--exec", archive: builder.finish())
  }

  private func archive(of root: FilePath) throws -> BootImage {
    var builder = InitialArchiveBuilder()
    let summary = try builder.addFolder(root)
    if let first = summary.omissions.first {
      let others = summary.omissions.count > 1 ? ", and \(summary.omissions.count - 1) more" : ""
      Diagnostics.say("--root: left out: \(first.path) (\(first.reason))\(others)")
    }
    if isVerbose {
      Diagnostics.say("--root: \(summary.entries) entries, \(summary.contents >> 20) MiB of files")
    }
    guard summary.contents >= Self.largeSize, isatty(STDERR_FILENO) != 0 else {
      return BootImage(name: root.string, archive: builder.finish())
    }
    let total = summary.contents
    let archive = builder.finish { read in
      // Every 16 MiB or so: each call has read a quarter of one.
      guard read & 0xff_ffff < 256 << 10 || read >= total else { return }
      Diagnostics.draw("\rtrivisor: packing \(min(read, total) >> 20) of \(total >> 20) MiB\u{1b}[K")
      if read >= total { Diagnostics.draw("\r\u{1b}[K") }
    }
    return BootImage(name: root.string, archive: archive)
  }

  /// A static busybox of the host's.
  private static func busybox() throws -> FilePath {
    let folders = getenv("PATH").map { String(cString: $0) } ?? ""
    for folder in folders.split(separator: ":").map(String.init) + ["/bin", "/usr/bin"] {
      let path = FilePath(folder).appending("busybox")
      guard path.withPlatformString({ access($0, X_OK) }) == 0, let image = try? BootImage(path: path) else { continue }
      if (try? image.needsInterpreter()) == false { return path }
    }
    throw Refusal(
      status: .usage,
      message: "--exec: there is no root: name a folder with --root or an archive with --initrd, or install a static"
        + " busybox (Debian: busybox-static)")
  }
}
