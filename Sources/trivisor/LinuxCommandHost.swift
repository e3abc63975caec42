// Linux as a host for one command: `trivisor run KERNEL --exec COMMAND [--root FOLDER]`.
//
// The kernel gets its first root from archives, one over the other: those of --initrd, the folder of --root, and a small one
// of ours, with a first process that gets the command over the second serial port and hands its status on
// (guests/linux/init.swift). Without a root it is the host's busybox, which must be static: then nothing else is needed.

import Boot
import CommandChannel
import EmbeddedGuests
import Glibc
import Platform
import SystemPackage
import VMM

/// Makes a boot request run a command.
struct LinuxCommandHost {
  /// No guest gets less, unless its user says so.
  private static let baseMemory: UInt64 = 256 << 20

  /// Run instead of the root's own first process, if there is one.
  let command: CommandOrder.Command?
  /// A folder to be the root.
  let root: FilePath?
  /// Guest memory, if the user said how much.
  var memory: UInt64?
  /// Whether somebody wants all that the kernel says.
  var wantsKernelLog = false

  init(command: CommandOrder.Command?, root: FilePath?) {
    self.command = command
    self.root = root
  }

  /// What the user's options are called that make no sense without a command or a root.
  private var option: String {
    switch command {
    case .shell: "--exec"
    case .words: "a command behind --"
    case nil: "--root"
    }
  }

  /// Adds archives and words for the kernel.
  /// - Returns: how much memory the guest needs, and what it is to run, if anything.
  /// - Throws: `Refusal`, `BootFailure`.
  func prepare(_ request: inout BootRequest) throws -> (MemorySize, CommandOrder?) {
    let kernel = try refuseUnfit(request)
    var needsBusybox = false
    var demand = RootDemand()
    for image in request.initialRamdisks { try demand.add(image) }
    var folder: RootFolder?
    if let root {
      let made = try RootFolder(root, beside: demand, memory: memory, kernel: kernel)
      if case .shell = command, request.initialRamdisks.isEmpty, !made.hasShell {
        throw Refusal(
          status: .usage,
          message:
            "--exec: \(root) has no shell, bin/sh: give a program and its arguments behind --, or put a shell there"
        )
      }
      request.initialRamdisks.append(made.archive)
      demand = demand + made.summary.demand
      folder = made
    } else if request.initialRamdisks.isEmpty {
      needsBusybox = true
    }
    let chosen = max(Self.baseMemory, demand.comfortableMemory)
    folder?.announce(memory: memory ?? chosen, isChosen: memory == nil)
    var order: CommandOrder?
    if let command {
      order = CommandOrder(command, environment: Self.environment, installsBusybox: needsBusybox)
      do throws(CommandOrder.Refusal) {
        _ = try order?.bytes()
      } catch {
        throw Refusal(status: .usage, message: "\(option): \(error)")
      }
      request.initialRamdisks.append(try ownArchive(withBusybox: needsBusybox))
      // Nobody waits for what the kernel says, and saying it takes time. The user's words come behind, and prevail.
      let words = (wantsKernelLog ? "loglevel=7" : "quiet loglevel=3") + " rdinit=/.trivisor/init"
      request.commandLine = request.commandLine.isEmpty ? words : words + " " + request.commandLine
    }
    return (MemorySize(bytes: chosen), order)
  }

  /// What can't work is told before anything is packed.
  private func refuseUnfit(_ request: BootRequest) throws -> LinuxIdentity {
    guard let kernel = try request.linuxIdentity() else {
      throw Refusal(
        status: .usage,
        message: "\(option) is for Linux kernels, and \(request.image.name) is an image of the kind"
          + " \(try request.imageKind().rawValue): leave it out")
    }
    if command != nil, !kernel.is64Bit {
      throw Refusal(
        status: .usage,
        message:
          "\(option): \(request.image.name) is a 32-bit kernel, and Trivisor's first process is a 64-bit program:"
          + " give a 64-bit kernel, or an archive with a first process of its own (--initrd)")
    }
    return kernel
  }

  private static var environment: [String] {
    let terminal = getenv("TERM").map { String(cString: $0) } ?? "dumb"
    return [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root",
      "TERM=\(terminal)",
    ]
  }

  private func ownArchive(withBusybox: Bool) throws -> BootImage {
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
    // ttyS1 (Linux: Documentation/admin-guide/devices.txt).
    builder.addCharacterDevice(".trivisor/channel", major: 4, minor: 65)
    return BootImage(name: option, archive: builder.finish())
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
