import TrivisorVMM

extension Setting {
  /// What the command line calls it.
  var option: String {
    switch self {
    case .processors: "--cpus"
    case .processorModel: "--cpu"
    case .memory: "--memory"
    case .interruptChips: "--interrupt-chips"
    case .technique: "--technique"
    case .trace: "--trace"
    case .imageKind: "--kind"
    case .loadAddress: "--load-address"
    case .entry: "--entry"
    case .linuxEntry: "--linux-entry"
    case .commandLine: "--append"
    case .initialRamdisk: "--initrd"
    case .module: "--module"
    case .root: "--root"
    case .disk: "--disk"
    case .share: "--share"
    case .socket: "--vsock"
    case .balloon: "--balloon"
    case .testDevices: "--test-devices"
    case .virtioTransport: "--transport"
    case .timeLimit: "--timeout"
    case .debugExit: "--debug-exit"
    case .resetPolicy: "--on-reset"
    case .command: "--exec (or a command behind --)"
    case .rootSize: "--root-size"
    case .modulesFolder: "--modules"
    case .workingFolder: "--cwd"
    case .environment: "--env"
    case .user: "--user"
    case .network: "--network"
    case .serialPorts: title
    }
  }
}

extension Sentence {
  /// As text that names settings by their options.
  var forCommandLine: String { text { $0.option } }
}
