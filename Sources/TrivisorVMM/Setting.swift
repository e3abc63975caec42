/// A part of what is asked of a machine, so that a sentence of a library's can name it. Whoever shows the sentence names it
/// as its users do: the command line by its options.
public enum Setting: Sendable, Hashable, CaseIterable {
  /// Of `MachineConfiguration`.
  case processors, processorModel, memory, interruptChips
  /// Which technique.
  case technique
  /// Whether the guest's code is traced.
  case trace
  /// What is booted, and how.
  case imageKind, loadAddress, entry, linuxEntry, commandLine, initialRamdisk, module, root
  /// Devices.
  case disk, share, network, socket, balloon, serialPorts, testDevices, virtioTransport
  /// How long it may take.
  case timeLimit
  /// Where the debug exit is.
  case debugExit
  /// What a reset means.
  case resetPolicy
  /// What a Linux guest is to run.
  case command
  /// What surrounds that.
  case rootSize, modulesFolder, workingFolder, environment, user

  /// In words, with an article.
  public var title: String {
    switch self {
    case .processors: "the number of processors"
    case .processorModel: "the processor model"
    case .memory: "the guest's memory"
    case .interruptChips: "the place of the interrupt chips"
    case .technique: "the technique"
    case .trace: "the trace"
    case .imageKind: "the image's kind"
    case .loadAddress: "the load address"
    case .entry: "the entry point"
    case .linuxEntry: "the way into a Linux kernel"
    case .commandLine: "the guest's command line"
    case .initialRamdisk: "the initial ramdisk"
    case .module: "the module"
    case .root: "the root folder"
    case .disk: "the disk"
    case .share: "the shared folder"
    case .network: "the network"
    case .socket: "the socket device"
    case .balloon: "the memory balloon"
    case .serialPorts: "the serial ports"
    case .testDevices: "the test devices"
    case .virtioTransport: "the way to virtio devices"
    case .timeLimit: "the time limit"
    case .debugExit: "the debug exit's port"
    case .resetPolicy: "what a reset means"
    case .command: "the command"
    case .rootSize: "how much can be written to the root"
    case .modulesFolder: "the modules' folder"
    case .workingFolder: "the command's folder"
    case .environment: "the environment"
    case .user: "the user"
    }
  }
}
