import ArgumentParser

/// Options of `trivisor run` that commands which run several guests hand on to each; there they are judged.
struct ForwardedOptions: ParsableArguments {
  @Option(help: "What the images are. Detected unless said.")
  var kind: String?

  @Option(help: "The processor that the guests see.")
  var cpu: String?

  @Option(help: "How many processors each has.")
  var cpus: Int?

  @Option(help: "Memory of each: 512 or 512M is in MiB, 2G in GiB.")
  var memory: String?

  @Option(help: ArgumentHelp("Text for the guests' command lines.", valueName: "text"))
  var append: [String] = []

  @Option(help: ArgumentHelp("An archive for Linux's first root.", valueName: "file"), completion: .file())
  var initrd: [String] = []

  @Option(help: ArgumentHelp("A module for multiboot kernels.", valueName: "file [text]"), completion: .file())
  var module: [String] = []

  @Option(
    help: ArgumentHelp("A virtio disk.", valueName: "file[,ro|,snapshot][,queues=N][,as=NAME]"), completion: .file())
  var disk: [String] = []

  @Option(help: "How the guests reach virtio devices: mmio, pci or auto.")
  var transport: String?

  @Option(help: "How a Linux kernel is entered.")
  var linuxEntry: String?

  @Option(help: "What a reset without an exit code means: success, failure or restart.")
  var onReset: String?

  @Flag(help: "Exit codes at the debug exit become (v << 1) | 1.")
  var qemuExitCodes = false

  @Flag(help: "What test kernels expect of QEMU's machine.")
  var testDevices = false

  @Option(help: "The debug exit's first port.")
  var debugExit: String?

  @Flag(help: "Don't put Trivisor's own words in front of a Linux kernel's command line.")
  var noDefaultAppend = false

  /// As words for `trivisor run`.
  var words: [String] {
    var words: [String] = []
    let single: [(String, String?)] = [
      ("kind", kind), ("cpu", cpu), ("cpus", cpus.map(String.init)), ("memory", memory), ("linux-entry", linuxEntry),
      ("transport", transport),
      ("on-reset", onReset), ("debug-exit", debugExit),
    ]
    for case (let name, let value?) in single { words.append("--\(name)=\(value)") }
    for (name, values) in [("append", append), ("initrd", initrd), ("module", module), ("disk", disk)] {
      words += values.map { "--\(name)=\($0)" }
    }
    if qemuExitCodes { words.append("--qemu-exit-codes") }
    if testDevices { words.append("--test-devices") }
    if noDefaultAppend { words.append("--no-default-append") }
    return words
  }
}
