import ArgumentParser
import TrivisorBoot
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorDebugger
import TrivisorDevices
import TrivisorFileServer
import TrivisorLinuxCommands
import TrivisorNetworking
import Glibc
import TrivisorPlatform
import TrivisorRewritingTechnique
import TrivisorTranslation
import SystemPackage
import TrivisorVMM

/// `trivisor run`.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run one guest and end with its exit code.",
    discussion: """
      The guest's first serial port is on standard input and output. On a terminal, Ctrl-A x ends the run, Ctrl-A h \
      helps; Ctrl-C reaches a guest that reads its serial port and ends the run of one that does not.

        trivisor run guest:hello --append "a b c"
        trivisor run boot-sector.img --kind flat16
        trivisor run vmlinuz --initrd initrd.img --append "quiet" --memory 512M
        trivisor run vmlinuz --root rootfs --exec "make test 2>&1 | tail"
        trivisor run vmlinuz --root / --share out,at=/out -- make test
        trivisor run kernel.elf --memory 1G --cpus 4 --timeout 30s --json result.json
      """)

  @Argument(
    help: "The guest's image: a file, or guest:NAME (see 'trivisor guests').",
    completion: .file())
  var image: String

  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp(
      "Behind --: a program and its arguments to run in a Linux guest, instead of a text for its shell (--exec).",
      valueName: "command"))
  var command: [String] = []

  @OptionGroup(title: "Options for Linux guests to work in")
  var workplace: WorkplaceOptions

  @Option(help: "What the image is: \(ImageKind.names). Detected unless said.")
  var kind: ImageKind?

  @Option(help: "How to run it: hardware, rewriting, paravirtual or auto.")
  var technique: TechniqueArgument = .auto

  @Option(
    help: """
      The processor that the guest sees: \(ProcessorModel.names). Default: x86-64-v3, as far as the host can. host is all \
      that the technique can give here: under hardware what KVM offers, the host's vendor included; under rewriting the \
      host's features of x86-64-v3, as an AMD processor has them; under paravirtual the host itself, as always there.
      """)
  var cpu: String?

  @Option(help: "How many processors.")
  var cpus = 1

  @Option(
    help: ArgumentHelp(
      "Where interrupt controllers and timers are: auto, kernel (KVM's own) or software (Trivisor's, as under rewriting).",
      valueName: "place"))
  var interruptChips: InterruptChips = .automatic

  @Option(
    help: "Guest memory: 512 or 512M is in MiB, 2G in GiB. Default: 128M; with --exec or --root what these need.")
  var memory: MemorySize?

  @Option(help: ArgumentHelp("Text for the guest's command line.", valueName: "text"))
  var append: [String] = []

  @Flag(
    inversion: .prefixedNo,
    help: ArgumentHelp(
      "Put Trivisor's own words in front of a Linux kernel's command line: \(LinuxCommandLine.defaults)"))
  var defaultAppend = true

  @Option(
    help: ArgumentHelp("An archive for Linux's first root; several are unpacked over one another.", valueName: "file"),
    completion: .file())
  var initrd: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      Run this text by the shell of a Linux guest, and end with its status. Standard input, output and error are the \
      command's; the kernel's log is shown with -v, or when the guest fails.
      """, valueName: "text"))
  var exec: String?

  @Option(
    help: ArgumentHelp(
      """
      With a command: a name by which further commands reach the guest while it runs ('trivisor exec --into', 'trivisor \
      shell').
      """, valueName: "name"))
  var name: String?

  @Option(
    help: ArgumentHelp("With a command: the kernel's log goes to this file.", valueName: "file"), completion: .file())
  var kernelLog: String?

  @Option(
    help: ArgumentHelp("A module for a multiboot kernel: a file, then its text.", valueName: "file [text]"),
    completion: .file())
  var module: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      A raw image or block device as a virtio disk, /dev/vda and so on (xvda for a Xen PV kernel). With ,ro the guest \
      can't write; with ,snapshot what it writes ends with the run, and the image stays as it is. ,queues=N: so many \
      requests are carried out at a time (default: as many as processors, at most 4). ,as=hda: what a Xen PV kernel \
      calls it.
      """,
      valueName: "file[,ro|,snapshot][,queues=N][,as=NAME]"),
    completion: .file())
  var disk: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      Sockets between host and guest (AF_VSOCK): a program that connects to the Unix socket PATH and writes 'CONNECT \
      port' reaches the guest's listener; the guest's connections to the host's port P go to the Unix socket PATH_P. \
      ,cid=N is the guest's address (default: 3).
      """, valueName: "PATH[,cid=N]"))
  var vsock: String?

  @Option(
    help: ArgumentHelp(
      """
      A memory balloon: so much is taken from the guest at first, which may be 0 ('trivisor balloon' changes it). Memory \
      that the guest reports as free goes back to the host.
      """, valueName: "size"))
  var balloon: MemorySize?

  @Option(
    help: ArgumentHelp(
      """
      A network interface, any number: user, by the program passt, without privileges; tap=NAME, an interface of the \
      host's; socket=PATH, another guest with the same path. With user, tcp=8080:80 and udp=… forward ports of the host's \
      loopback (or of ADDRESS/8080:80), and loopback=off keeps the guest from it. With the others, a command's guest gets \
      address=A/BITS, gateway=A and dns=A. mac=… is the interface's; tap=NAME,queues=N gives it several pairs of queues. \
      See docs/network.md.
      """, valueName: "user|tap=name|socket=path[,…]"))
  var network: [String] = []

  @Option(
    help: """
      How the guest reaches virtio devices: mmio, pci or auto. A Linux kernel finds them sooner over MMIO; auto takes PCI \
      where it has only that.
      """)
  var transport: TransportArgument = .auto

  @Option(
    help: """
      The guest's console on standard input and output: serial, or virtio (Linux: hvc0, whose driver the guest must \
      have; the serial port is there, too, without input).
      """)
  var console: ConsoleArgument = .serial

  @Option(help: "How a Linux kernel is entered: auto, pvh (unpacked on the host) or bzimage (as packaged).")
  var linuxEntry: LinuxEntry = .automatic

  @Option(help: "Where a flat image is loaded and, unless --entry is given, entered.")
  var loadAddress: Address?

  @Option(help: "Where a flat image is entered.")
  var entry: Address?

  @Option(help: "End the guest after this time with status 124: 30s, 500ms, 5m.")
  var timeout: TimeLimit?

  @Option(help: "What a reset without an exit code means: success, failure (122) or restart.")
  var onReset: ResetPolicy = .failure

  @Flag(help: "Exit codes at the debug exit become (v << 1) | 1, as QEMU's isa-debug-exit makes them.")
  var qemuExitCodes = false

  @Flag(help: "What test kernels expect of QEMU's machine: its test device, and its firmware configuration.")
  var testDevices = false

  @Option(
    help: ArgumentHelp(
      "The debug exit's first port, as iobase of QEMU's isa-debug-exit. Default: 0xf4.", valueName: "port"))
  var debugExit: Address?

  @Flag(help: "Print what the run cost on standard error.")
  var stats = false

  @Option(
    help: ArgumentHelp(
      """
      Let GDB at the guest ('target remote'): PORT on this host's loopback address, 0 for any, or unix:PATH. With ,wait the \
      guest's first instruction waits for it. ,i386 or ,x86-64 says for which processor the guest is, where its image \
      doesn't.
      """, valueName: "PORT|unix:PATH[,wait]"))
  var gdb: String?

  @Option(
    help: ArgumentHelp(
      "Under the rewriting technique: write a line for each block entered or each sensitive instruction met.",
      valueName: "file"), completion: .file())
  var trace: String?

  @Option(help: "What --trace writes down: blocks or sensitive (instructions).")
  var traceSubject: CodeTrace.Subject = .blocks

  @Option(
    help: "Write the result to this file as JSON; - is standard output, behind the guest's.",
    completion: .file(extensions: ["json"]))
  var json: String?

  @Option(
    help: ArgumentHelp(
      "End at once when this process, which must be the one that started the run, is gone.", valueName: "process"))
  var endWithParent: Int32?

  @Flag(
    inversion: .prefixedNo,
    help: ArgumentHelp(
      "Give up all files and system calls that the run does not need, before the guest begins (docs/security.md)."))
  var sandbox = true

  @Flag(name: .shortAndLong, help: "Don't say which technique runs the guest, and why.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Say more on standard error.")
  var verbose = false

  func run() throws {
    let began = monotonicNanoseconds()
    var computed = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &computed)
    let execution = began &- UInt64(computed.tv_sec) * 1_000_000_000 &- UInt64(computed.tv_nsec)
    if let endWithParent {
      // In this order: a parent that goes in between is missed by neither.
      guard clinux_die_with_parent() == 0, getppid() == endWithParent else {
        throw Refusal(
          status: .failed, message: "--end-with-parent: process \(endWithParent) is not, or no longer, the parent")
      }
    }
    let guest = try GuestImage(image, isParavirtual: technique == .paravirtual)
    let (configuration, order, further, packed, networks) = try configuration(guest)
    try RunSession.refuse(configuration.machine.findings())
    var choice: TechniqueChoice
    do throws(NoTechnique) {
      choice = try techniques.choose(
        technique.request, isParavirtualKernel: configuration.boot.isParavirtualKernel,
        findings: { technique in
          let traces = trace == nil || technique.name == .rewriting
          return configuration.validate(for: technique)
            + (traces ? [] : [Finding(.trace, "only translated code can be traced")])
        })
    } catch {
      throw Refusal(status: .failed, sentence: error.sentence)
    }
    let codeTrace = try trace.map { try makeTrace($0, for: choice) }
    if let codeTrace {
      choice = TechniqueChoice(technique: RewritingTechnique(trace: codeTrace), reason: choice.reason)
    }
    let debugger = try gdb.map { text throws(Refusal) in
      do throws(DebuggerFailure) {
        let address = try DebuggerAddress(text)
        try address.refuseUnknownWord()
        return try DebuggerServer(address)
      } catch {
        throw Refusal(status: .usage, message: "--gdb: \(error)")
      }
    }
    var session = RunSession(
      guest: guest, choice: choice, began: began, execution: execution, configuration: configuration)
    // A damaged image is told of when it is loaded.
    session.isTranslated =
      choice.technique.handoverKind == .xenDomain && (try? configuration.boot.isDomainOfUpperHalf()) == true
    session.usesVirtioConsole = console == .virtio
    session.command = order
    session.kernelLog = kernelLog
    session.name = name
    session.furtherCommands = further
    session.isConfined = sandbox
    session.packed = packed
    session.networks = networks
    session.timeLimit = timeout?.nanoseconds
    session.showsStatistics = stats
    session.isVerbose = verbose
    session.isQuiet = quiet
    session.resultFile = json
    session.debugger = debugger
    if let trace, let codeTrace {
      session.trace = (.file(trace, option: "--trace"), { codeTrace.finish() })
    }
    Diagnostics.end(try session.run())
  }

  private func makeTrace(_ file: String, for choice: TechniqueChoice) throws -> CodeTrace {
    guard choice.technique.name == .rewriting else {
      throw Refusal(
        status: .usage,
        message: "--trace needs translated code, and the technique is \(choice.technique.name.rawValue): add "
          + "--technique rewriting")
    }
    do throws(TechniqueFailure) {
      return try CodeTrace(traceSubject, path: file)
    } catch {
      throw Refusal(status: .failed, sentence: error.sentence)
    }
  }

  /// What is run in a Linux guest instead of its own first process.
  private var linuxCommand: CommandOrder.Command? {
    get throws {
      if exec != nil, !command.isEmpty {
        throw Refusal(
          status: .usage, message: "--exec and a command behind -- can't be had together: leave one of them out")
      }
      if let exec { return .shell(exec) }
      guard !command.isEmpty else { return nil }
      return .words(RawWords.last(command))
    }
  }

  private func refuseWithoutCommand() throws {
    guard name == nil else {
      throw Refusal(
        status: .usage,
        message: "--name is for guests that run a command (--exec, or behind --): other guests take no further commands"
      )
    }
    guard kernelLog == nil else {
      throw Refusal(
        status: .usage,
        message: "--kernel-log is for guests that run a command (--exec, or behind --): without one, the kernel's"
          + " log is on standard output")
    }
  }

  /// Folders for a guest that mounts them itself, and what makes no sense for it.
  private func sharesWithoutCommand(_ place: Workplace) throws -> [SharedFolderConfiguration] {
    let unusable: [(String, Bool)] = [
      ("--cwd", workplace.cwd != nil), ("--env", !workplace.env.isEmpty), ("--user", workplace.user != nil),
      ("--modules", workplace.modules != nil), ("--root-size", workplace.rootSize != nil),
    ]
    if let first = unusable.first(where: \.1) {
      throw Refusal(status: .usage, message: "\(first.0) is for guests that run a command (--exec, or behind --)")
    }
    if let root = place.root, root.way == .writable || !root.writable.isEmpty {
      throw Refusal(
        status: .usage,
        message: "--root: only with a command (--exec, or behind --) can the root be written through: leave ,rw out")
    }
    return place.shares.map { share in
      SharedFolderConfiguration(
        SharedFolder(
          path: share.path, isReadOnly: share.isReadOnly, hidden: place.hidden),
        tag: share.tag)
    }
  }

  private func configuration(
    _ guest: GuestImage
  ) throws -> (PlatformConfiguration, CommandOrder?, FurtherCommands?, [FilePath], [GuestNetwork]) {
    var packed: [FilePath] = []
    var request = BootRequest(image: guest.image, kind: kind)
    request.commandLine = append.joined(separator: " ")
    request.addsDefaultCommandLine = defaultAppend
    request.linuxEntry = linuxEntry
    if console == .virtio { request.linuxConsole = "hvc0" }
    request.initialRamdisks = try initrd.map { try BootImage(path: FilePath($0)) }
    var memoryNeeded = MemorySize(bytes: 128 << 20)
    var order: CommandOrder?
    var further: FurtherCommands?
    var shares: [SharedFolderConfiguration] = []
    var chosenTransport = transport.kind ?? .mmio
    let isDomain = technique == .paravirtual || technique == .auto && request.isParavirtualKernel
    var linuxCommand = try linuxCommand
    var place = try workplace.workplace
    try place.openImage(for: &linuxCommand) { Diagnostics.say("--root: " + $0) }
    if linuxCommand == nil {
      try refuseWithoutCommand()
      shares = try sharesWithoutCommand(place)
    }
    let networks = try openNetworks()
    place.networks = networks.map { WorkplaceNetwork($0) }
    if linuxCommand != nil || workplace.root != nil {
      var host = LinuxCommandHost(command: linuxCommand, options: place)
      host.option = linuxCommand == nil ? "--root" : exec == nil ? "a command behind --" : "--exec"
      host.say = { Diagnostics.say($0) }
      if isatty(STDERR_FILENO) != 0 { host.showProgress = Diagnostics.showPacking }
      host.memory = memory?.bytes
      host.wantsKernelLog = verbose || kernelLog != nil
      host.hasDisks = !disk.isEmpty
      host.isDomain = isDomain
      host.hasVirtioConsole = console == .virtio
      host.hasSockets = vsock != nil
      host.hasBalloon = balloon != nil
      host.transport = transport.kind
      host.imagePath = image.hasPrefix("guest:") ? nil : FilePath(image)
      let result = try host.prepare(&request)
      (memoryNeeded, order, further) = (MemorySize(bytes: result.memory), result.order, result.further)
      shares += result.shares
      packed = result.packed
      chosenTransport = result.transport
    } else if transport == .auto, !isDomain, !disk.isEmpty || !shares.isEmpty || console == .virtio {
      chosenTransport = LinuxCommandHost.transport(
        for: request, imagePath: image.hasPrefix("guest:") ? nil : FilePath(image))
    }
    request.modules = try module.map { argument in
      let words = argument.split(separator: " ", maxSplits: 1).map(String.init)
      return BootModule(
        image: try BootImage(path: FilePath(words.first ?? "")), commandLine: words.count > 1 ? words[1] : "")
    }
    request.loadAddress = loadAddress?.value.rawValue
    request.entry = entry?.value.rawValue
    var configuration = PlatformConfiguration(boot: request)
    configuration.machine.processorCount = cpus
    configuration.machine.interruptChips = interruptChips
    configuration.machine.memorySize = (memory ?? memoryNeeded).bytes
    if let cpu {
      guard let model = ProcessorModel.named(cpu) else {
        throw Refusal(
          status: .usage, message: "--cpu: there is no model '\(cpu)'; there are \(ProcessorModel.names)")
      }
      configuration.machine.processorModel = model
    }
    configuration.storageDevices = try disk.map { try DiskArgument($0).configuration() }
    configuration.socketDevice = try vsock.map { try SocketArgument($0).configuration() }
    configuration.memoryBalloon = balloon.map { size in
      MemoryBalloonConfiguration(size: size.bytes, statisticsInterval: stats ? 1 : nil)
    }
    configuration.sharedFolders = shares
    configuration.networkDevices = networks.map { NetworkDeviceConfiguration($0.links, address: $0.hardwareAddress) }
    configuration.virtioTransport = chosenTransport
    configuration.requiresVirtioTransport = transport != .auto
    configuration.resetPolicy = onReset
    configuration.usesQEMUExitCodes = qemuExitCodes
    configuration.hasTestDevices = testDevices
    if let debugExit {
      guard let port = UInt16(exactly: debugExit.value.rawValue) else {
        throw Refusal(status: .usage, message: "--debug-exit: ports are 0 to 0xffff")
      }
      configuration.debugExitPort = port
    }
    return (configuration, order, further, packed, networks)
  }

  /// Says where the gateway is, if that is not where users look for it.
  private func openUserNetwork(_ user: UserNetwork, _ address: MACAddress?) throws(NetworkFailure) -> GuestNetwork {
    let network = try GuestNetwork(user, hardwareAddress: address)
    if let first = network.addresses.entries.first, let gateway = first.gateway, gateway != UserNetwork.usualGateway {
      Diagnostics.say("--network: the guest is \(first.address), and the gateway \(gateway)")
    }
    return network
  }

  /// Makes what the guest's interfaces are plugged into: it can't be had any more when the process is confined.
  private func openNetworks() throws -> [GuestNetwork] {
    try network.map { text in
      let argument = try Refusal.of("--network") { () throws(InvalidArgument) in try NetworkArgument(parsing: text) }
      if let finding = argument.finding { throw Refusal(status: .usage, message: "--network: \(finding)") }
      do throws(NetworkFailure) {
        return switch argument.kind {
        case .user(let user): try openUserNetwork(user, argument.hardwareAddress)
        case .tap(let name):
          try GuestNetwork(
            tap: name, queueCount: argument.queueCount ?? 1, hardwareAddress: argument.hardwareAddress,
            addresses: argument.addresses)
        case .socket(let path):
          try GuestNetwork(
            socket: FilePath(path), hardwareAddress: argument.hardwareAddress, addresses: argument.addresses)
        }
      } catch {
        throw Refusal(status: error.isUsage ? .usage : .failed, sentence: error.sentence)
      }
    }
  }
}

/// `--technique`.
enum TechniqueArgument: String, ExpressibleByArgument, CaseIterable {
  case hardware, rewriting, paravirtual, auto

  var request: TechniqueRequest {
    TechniqueName(rawValue: rawValue).map { .named($0) } ?? .automatic
  }
}

/// `--console`.
enum ConsoleArgument: String, ExpressibleByArgument, CaseIterable {
  case serial, virtio
}

/// `--transport`.
enum TransportArgument: String, ExpressibleByArgument, CaseIterable {
  case mmio, pci, auto

  /// What was asked for, if anything.
  var kind: VirtioTransportKind? { VirtioTransportKind(rawValue: rawValue) }
}

extension ResetPolicy: ExpressibleByArgument {}
extension InterruptChips: ExpressibleByArgument {}
extension ImageKind: ExpressibleByArgument {}
extension LinuxEntry: ExpressibleByArgument {}

extension ImageKind {
  /// For help and messages.
  static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension ProcessorModel {
  /// For help and messages.
  static var names: String { all.map(\.name).joined(separator: ", ") }
}

extension CodeTrace.Subject: ExpressibleByArgument {}
