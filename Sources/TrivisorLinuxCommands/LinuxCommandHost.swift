// Linux as a host for one command, as `trivisor run KERNEL --exec COMMAND [--root FOLDER] [--share FOLDER]` has it.
//
// The kernel gets its first root from archives, one over the other: those that are given, the root folder where it is to be
// a copy, and a small one of ours, with the modules that are needed and a first process that gets the command over the second
// serial port and hands its status on (guests/linux/init.swift). A root that is no copy is a folder by virtio-fs, which that
// process mounts. Without a root it is the host's busybox, which must be static: then nothing else is needed.

import TrivisorBoot
import TrivisorCommandChannel
import TrivisorEmbeddedGuests
import TrivisorFileServer
import Glibc
import TrivisorKernelModules
import TrivisorPlatform
import SystemPackage
import TrivisorVMM

/// Makes a boot request run a command.
package struct LinuxCommandHost {
  /// What comes of it besides the request's changes.
  package struct Result {
    /// How much the guest needs, in bytes.
    package var memory: UInt64
    /// What it is to run, if anything.
    package var order: CommandOrder?
    /// How further commands are made like it.
    package var further: FurtherCommands?
    /// What of the host's is packed into archives, when the guest's memory is filled.
    package var packed: [FilePath] = []
    package var shares: [SharedFolderConfiguration] = []
    /// How the guest is to reach its virtio devices.
    package var transport = VirtioTransportKind.mmio
  }

  /// No guest gets less, unless its user says so.
  private static let baseMemory: UInt64 = 256 << 20
  /// With a root that is the host's folder: only what is touched is taken from the host.
  private static let liveMemory: UInt64 = 2 << 30

  /// Run instead of the root's own first process, if there is one.
  let command: CommandOrder.Command?
  let options: Workplace
  /// Told what a person should know of what was chosen, a sentence each.
  package var say: (Sentence) -> Void = { _ in }
  /// Told how many bytes of a large root are packed, and of how many; if somebody wants to know.
  package var showProgress: (@Sendable (_ done: UInt64, _ total: UInt64) -> Void)?
  /// Guest memory, if the user said how much.
  package var memory: UInt64?
  /// Whether somebody wants all that the kernel says.
  package var wantsKernelLog = false
  /// Whether there are disks, or a virtio console: their drivers may be modules.
  package var hasDisks = false
  package var hasVirtioConsole = false
  /// Whether there are virtio sockets, or a balloon.
  package var hasSockets = false
  package var hasBalloon = false
  /// Whether the guest is a paravirtual domain.
  package var isDomain = false
  /// How the guest is to reach virtio devices; without, as its kernel can.
  package var transport: VirtioTransportKind?
  /// The image's file, if it is one.
  package var imagePath: FilePath?

  package init(command: CommandOrder.Command?, options: Workplace) {
    self.command = command
    self.options = options
    option = command == nil ? "\(Setting.root)" : "\(Setting.command)"
  }

  /// What the caller's users call that which makes no sense without a command or a root.
  package var option: Sentence

  /// How a kernel that runs no command of ours can reach virtio devices. What its own archives hold is not looked into.
  package static func transport(for request: BootRequest, imagePath: FilePath?) -> VirtioTransportKind {
    guard let release = (try? request.linuxRelease()) ?? nil else { return .mmio }
    let folder = ModuleFolder(release: release, image: imagePath)
    let abilities = KernelAbilities(request.image, path: imagePath, release: release, modules: folder)
    return abilities.needsVirtioOverPCI ? .pci : .mmio
  }

  /// Adds archives and words for the kernel.
  /// - Throws: `WorkplaceRefusal`, `BootFailure`.
  package func prepare(_ request: inout BootRequest) throws -> Result {
    let kernel = try refuseUnfit(request)
    guard let command else {
      var result = try prepareRoot(&request, kernel)
      result.transport = transport ?? Self.transport(for: request, imagePath: imagePath)
      return result
    }
    let user = try options.user.map { try GuestUser($0, root: options.root?.path) } ?? GuestUser()
    var workplace = GuestWorkplace(options: options, user: user, request: request, imagePath: imagePath)
    workplace.hasDisks = hasDisks
    workplace.isDomain = isDomain
    workplace.hasVirtioConsole = hasVirtioConsole
    workplace.hasSockets = hasSockets
    workplace.hasBalloon = hasBalloon
    workplace.transport = transport
    workplace.say = say
    try workplace.prepare()
    var result: Result
    if workplace.hasLiveRoot {
      try refuseMissingShell()
      result = Result(memory: memory ?? Self.liveMemory)
    } else {
      result = try prepareRoot(&request, kernel)
    }
    let needsBusybox = options.root == nil && request.initialRamdisks.isEmpty
    let environment = try CommandEnvironment(options.environment)
    var order = CommandOrder(
      command, environment: environment.variables(of: user), installsBusybox: needsBusybox)
    order.steps = workplace.steps
    do throws(CommandOrder.Refusal) {
      _ = try order.bytes()
    } catch {
      throw WorkplaceRefusal(status: .usage, message: "\(option): \(error)")
    }
    request.initialRamdisks.append(try ownArchive(withBusybox: needsBusybox, modules: workplace.modules))
    // Nobody waits for what the kernel says, and saying it takes time. The user's words come behind, and prevail.
    let words = (wantsKernelLog ? "loglevel=7" : "quiet loglevel=3") + " rdinit=/.trivisor/init"
    request.commandLine = request.commandLine.isEmpty ? words : words + " " + request.commandLine
    result.order = order
    result.further = FurtherCommands(
      root: options.root?.path, user: user, environment: environment,
      folder: workplace.steps.last { $0.hasPrefix(FurtherCommands.folderStep) })
    if needsBusybox { result.packed.append(try busybox()) }
    result.shares = workplace.shares
    result.transport = workplace.chosenTransport
    return result
  }

  /// A root in memory: the archives, and the folder as one more.
  private func prepareRoot(_ request: inout BootRequest, _ kernel: LinuxIdentity) throws -> Result {
    var demand = RootDemand()
    for image in request.initialRamdisks { try demand.add(image) }
    var folder: RootFolder?
    if let root = options.root {
      let made = try RootFolder(
        root.path, isImage: options.rootIsImage, beside: demand, memory: memory, kernel: kernel,
        showProgress: showProgress)
      if request.initialRamdisks.isEmpty { try refuseMissingShell() }
      request.initialRamdisks.append(made.archive)
      demand = demand + made.summary.demand
      folder = made
    }
    let chosen = max(Self.baseMemory, demand.comfortableMemory)
    folder?.announce(memory: memory ?? chosen, isChosen: memory == nil, say: say)
    return Result(memory: chosen, packed: folder.map { [$0.path] } ?? [])
  }

  private func refuseMissingShell() throws {
    guard case .shell = command, let root = options.root, !RootFolder.hasShell(root.path) else { return }
    throw WorkplaceRefusal(
      status: .usage,
      message: "\(option): \(root.path) has no shell, bin/sh: give a program and its arguments, or put a shell"
        + " there"
    )
  }

  /// What can't work is told before anything is packed.
  private func refuseUnfit(_ request: BootRequest) throws -> LinuxIdentity {
    guard let kernel = try request.linuxIdentity() else {
      throw WorkplaceRefusal(
        status: .usage,
        message: "\(option) is for Linux kernels, and \(request.image.name) is an image of the kind"
          + " \(try request.imageKind().rawValue): leave it out")
    }
    if command != nil, !kernel.is64Bit {
      throw WorkplaceRefusal(
        status: .usage,
        message:
          "\(option): \(request.image.name) is a 32-bit kernel, and Trivisor's first process is a 64-bit program:"
          + " give a 64-bit kernel, or an archive with a first process of its own (\(Setting.initialRamdisk))")
    }
    return kernel
  }

  private func ownArchive(withBusybox: Bool, modules: [ModuleFile]) throws -> BootImage {
    var builder = InitialArchiveBuilder()
    builder.addDirectory("dev")
    // The kernel opens this for the first process before anything can be mounted.
    builder.addCharacterDevice("dev/console", major: 5, minor: 1)
    if withBusybox {
      builder.addDirectory("bin")
      try builder.addHostFile("bin/busybox", at: try busybox(), mode: 0o755)
    }
    builder.addDirectory(".trivisor", mode: 0o700)
    builder.addFile(".trivisor/init", Array(EmbeddedGuest.linuxInit), mode: 0o700)
    // ttyS1, or hvc1 (Linux: Documentation/admin-guide/devices.txt).
    builder.addCharacterDevice(".trivisor/channel", major: isDomain ? 229 : 4, minor: isDomain ? 1 : 65)
    if !modules.isEmpty {
      builder.addDirectory(".trivisor/modules", mode: 0o700)
      for module in modules { builder.addFile(".trivisor/modules/\(module.name)", try module.contents(), mode: 0o600) }
    }
    return BootImage(name: option.description, archive: builder.finish())
  }

  /// A static busybox of the host's.
  private func busybox() throws -> FilePath {
    let folders = getenv("PATH").map { String(cString: $0) } ?? ""
    for folder in folders.split(separator: ":").map(String.init) + ["/bin", "/usr/bin"] {
      let path = FilePath(folder).appending("busybox")
      guard path.withPlatformString({ access($0, X_OK) }) == 0, let image = try? BootImage(path: path) else { continue }
      if (try? image.needsInterpreter()) == false { return path }
    }
    throw WorkplaceRefusal(
      status: .usage,
      message:
        "\(option): there is no root: name a folder (\(Setting.root)) or an archive (\(Setting.initialRamdisk)), or install a static"
        + " busybox (Debian: busybox-static)")
  }
}
