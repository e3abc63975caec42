// One value in, one machine out.
//
// A configuration is plain data: it can be made, compared and checked without touching the host. *Device configuration* is
// what the guest sees; an *attachment* is what backs it on the host.

import TrivisorBoot
import TrivisorCommandChannel
import TrivisorDevices
import TrivisorFileServer
import SystemPackage
import TrivisorVMM

/// Everything that makes a machine.
public struct PlatformConfiguration: Sendable {
  /// Processors, memory, processor model.
  public var machine: MachineConfiguration
  /// What it runs.
  public var boot: BootRequest
  /// COM1 to COM4, as many as there are.
  public var serialPorts: [SerialPortConfiguration]
  /// A virtio console, if there is one: then it gets the input, and the serial ports none.
  public var virtioConsole: VirtioConsoleConfiguration?
  /// What runs one command in a Linux guest, over COM2 or a domain's second console, if there is to be one: then it gets the input.
  public var command: CommandConfiguration?
  /// Disks, in the order in which the guest finds them.
  public var storageDevices: [StorageDeviceConfiguration] = []
  /// Network interfaces, in the order in which the guest finds them.
  public var networkDevices: [NetworkDeviceConfiguration] = []
  /// Folders of the host's, in the order in which the guest finds them.
  public var sharedFolders: [SharedFolderConfiguration] = []
  /// How the guest reaches virtio devices.
  public var virtioTransport = VirtioTransportKind.mmio
  /// Whether somebody has asked for that way: a paravirtual domain, which has none, is then refused.
  public var requiresVirtioTransport = false
  /// Whether there is a virtio source of random numbers.
  public var hasEntropyDevice = true
  /// Sockets between programs of the host's and of the guest's, if there are to be any.
  public var socketDevice: SocketDeviceConfiguration?
  /// Memory that can be taken from the guest, if it is to be.
  public var memoryBalloon: MemoryBalloonConfiguration?
  /// Exit codes at the debug exit as QEMU's `isa-debug-exit` gives them, `(value << 1) | 1`, for scripts made for QEMU.
  public var usesQEMUExitCodes = false
  /// What test kernels expect of QEMU's machine: `pc-testdev` (ports 0xe0 and 0x2000, memory at 0xff00_0000) and the firmware
  /// configuration (port 0x510).
  public var hasTestDevices = false
  /// The debug exit's first port: where `isa-debug-exit` is in scripts made for QEMU may be elsewhere.
  public var debugExitPort: UInt16 = DebugExit.conventionalPort
  /// What to make of a reset without an exit code.
  public var resetPolicy = ResetPolicy.failure

  /// One processor, 128 MiB, nothing at the serial ports.
  public init(boot: BootRequest) {
    self.boot = boot
    machine = MachineConfiguration()
    serialPorts = []
  }

  /// Where all that the guest writes goes.
  var sinks: [any SerialSink] {
    (command.map { [$0.channel] } ?? []) + serialPorts.map(\.output) + (virtioConsole.map { [$0.output] } ?? [])
  }

  /// Beside disks and folders: a console, a source of random numbers, sockets, a balloon.
  private static let singleDevices = 4

  /// Their names are xvda to xvdp.
  private static let mostDomainDisks = 16
  private static let mostNetworks = 8

  /// Every request that can't be honoured under `technique`; when empty, only the host or the image can still refuse.
  public func validate(for technique: any Technique) -> [Finding] {
    var findings = machine.findings()
    if serialPorts.count > SerialPortConfiguration.places.count {
      findings.append(
        Finding(.serialPorts, "\(serialPorts.count) can't be had: a PC has \(SerialPortConfiguration.places.count)"))
    }
    if let other = StandardPorts.neighbour(ofDebugExitAt: debugExitPort) {
      findings.append(
        Finding(
          .debugExit,
          "0x\(String(debugExitPort, radix: 16)) and the \(DebugExit.portCount - 1) ports behind can't be had: \(other) is there; QEMU's"
            + " usual ones are 0x501 and 0xf4"))
    }
    if command != nil {
      if serialPorts.count > 1 {
        findings.append(Finding(.serialPorts, "COM2 is the command channel's: at most COM1 can be had beside it"))
      }
      if resetPolicy != .failure {
        findings.append(
          Finding(.resetPolicy, "\(resetPolicy.rawValue) can't be had with a command: only its own status counts"))
      }
    }
    let most = VirtioPlaces.maximumCount - Self.singleDevices - sharedFolders.count - networkDevices.count
    if networkDevices.count > Self.mostNetworks {
      findings.append(
        Finding(.network, "\(networkDevices.count) networks can't be had: give at most \(Self.mostNetworks)"))
    } else if most < 0 {
      findings.append(
        Finding(
          .share,
          "\(sharedFolders.count) folders can't be shared: give at most \(sharedFolders.count + most)"))
    } else if storageDevices.count > most {
      findings.append(Finding(.disk, "\(storageDevices.count) disks can't be had: give at most \(most)"))
    }
    findings += NetworkDeviceConfiguration.findings(networkDevices, isDomain: technique.handoverKind == .xenDomain)
    findings += StorageDeviceConfiguration.findings(storageDevices, isDomain: technique.handoverKind == .xenDomain)
    if technique.handoverKind == .xenDomain, hasTestDevices {
      findings.append(
        Finding(
          .testDevices,
          "a paravirtual domain has no bus for them: leave them out, or choose hardware or rewriting by"
            + " \(Setting.technique)"))
    }
    if technique.handoverKind == .xenDomain, requiresVirtioTransport {
      findings.append(
        Finding(
          .virtioTransport,
          "a paravirtual domain has no virtio devices: leave that out, or choose hardware or rewriting by"
            + " \(Setting.technique)"))
    }
    if technique.handoverKind == .xenDomain, storageDevices.count > Self.mostDomainDisks {
      findings.append(
        Finding(
          .disk,
          "\(storageDevices.count) disks can't be had: a paravirtual domain has at most \(Self.mostDomainDisks)"))
    }
    if technique.handoverKind == .xenDomain {
      for setting in Set(sharedFolders.map(\.setting)) {
        findings.append(
          Finding(
            setting,
            "a paravirtual domain has no virtio devices, so no folder can be shared with it: leave that out, or choose"
              + " hardware or rewriting by \(Setting.technique)"))
      }
    }
    if let socketDevice, !VirtioSocket.identifiers.contains(socketDevice.identifier) {
      findings.append(
        Finding(
          .socket,
          "the guest can't have the identifier \(socketDevice.identifier): give \(VirtioSocket.identifiers.lowerBound) to"
            + " \(VirtioSocket.identifiers.upperBound)"))
    }
    if let memoryBalloon, memoryBalloon.size >= machine.memorySize {
      findings.append(
        Finding(
          .balloon,
          "\(memoryBalloon.size) bytes can't be taken from a guest that has \(machine.memorySize): give less, or raise"
            + " \(Setting.memory)"))
    }
    if technique.handoverKind == .xenDomain {
      let asked: [(Setting, Bool)] = [(.socket, socketDevice != nil), (.balloon, memoryBalloon != nil)]
      for (setting, isAsked) in asked where isAsked {
        findings.append(
          Finding(
            setting,
            "a paravirtual domain has no virtio devices: leave it out, or choose hardware or rewriting by"
              + " \(Setting.technique)"))
      }
    }
    return findings + technique.findings(for: machine)
  }
}

/// A virtio console and what is at its other end.
public struct VirtioConsoleConfiguration: Sendable {
  /// What the guest writes goes here.
  public var output: any SerialSink
  /// What the guest reads comes from here, if from anywhere.
  public var input: SerialInput?
  /// The terminal's, if it is one.
  public var size: VirtioConsole.Size?

  /// - Parameters:
  ///   - output: may be a serial port's, too.
  ///   - input: read from a terminal or a pipe.
  ///   - size: what the guest is told.
  public init(output: any SerialSink, input: SerialInput? = nil, size: VirtioConsole.Size? = nil) {
    self.output = output
    self.input = input
    self.size = size
  }
}

/// Virtio sockets for the guest; a Unix socket on the host.
public struct SocketDeviceConfiguration: Sendable {
  /// The host's side: made once, for all lives of the machine.
  public var gate: SocketGate
  /// The guest's address.
  public var identifier: UInt64

  /// - Parameter identifier: one of `VirtioSocket.identifiers`.
  public init(gate: SocketGate, identifier: UInt64 = VirtioSocket.identifiers.lowerBound) {
    self.gate = gate
    self.identifier = identifier
  }
}

/// A balloon in the guest's memory.
public struct MemoryBalloonConfiguration: Sendable, Equatable {
  /// What is to be taken from the guest at first, in bytes.
  public var size: UInt64
  /// In seconds, how often the guest is asked how its memory is; without, when somebody wants to know.
  public var statisticsInterval: Int?

  /// - Parameter size: in bytes; zero for one that is empty at first.
  public init(size: UInt64 = 0, statisticsInterval: Int? = nil) {
    self.size = size
    self.statisticsInterval = statisticsInterval
  }
}

/// A command for the guest's first process, and what it reads.
public struct CommandConfiguration: Sendable {
  /// The host's end of the line.
  public var channel: CommandChannel
  /// The command's standard input; without, it is at its end at once.
  public var input: SerialInput?

  /// - Parameter input: read from a terminal or a pipe.
  public init(channel: CommandChannel, input: SerialInput? = nil) {
    self.channel = channel
    self.input = input
  }
}

/// A serial port and what is at its other end.
public struct SerialPortConfiguration: Sendable {
  /// What the guest writes goes here.
  public var output: any SerialSink
  /// What the guest reads comes from here, if from anywhere.
  public var input: SerialInput?

  /// - Parameter input: only the first port's is read from a terminal.
  public init(output: any SerialSink, input: SerialInput? = nil) {
    self.output = output
    self.input = input
  }

  /// Where a PC has its serial ports: port and interrupt line of COM1 to COM4.
  static let places: [(port: UInt16, line: Int)] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)]

  /// The command channel's: COM2.
  static let commandPlace = places[1]
}

/// Bytes of the host that a serial port receives.
public struct SerialInput: Sendable {
  /// Read until its end; not closed.
  public var fileDescriptor: Int32
  /// Whether a person types there: then the escape sequence and the rule for Ctrl-C apply.
  public var isTerminal: Bool

  /// - Parameter isTerminal: whether the escape sequence applies.
  public init(fileDescriptor: Int32, isTerminal: Bool) {
    self.fileDescriptor = fileDescriptor
    self.isTerminal = isTerminal
  }
}

/// A folder: virtio-fs for the guest, the folder itself on the host.
public struct SharedFolderConfiguration: Sendable {
  /// What is shared, and how.
  public var folder: SharedFolder
  /// By which name the guest mounts it; at most 36 bytes.
  public var tag: String
  /// What asks for it: `.root`, or a share of its own.
  public var setting: Setting

  /// - Parameter setting: named by what is said of it.
  public init(_ folder: SharedFolder, tag: String, setting: Setting = .share) {
    self.folder = folder
    self.tag = tag
    self.setting = setting
  }
}

/// A network interface: virtio for the guest, what it is plugged into on the host.
public struct NetworkDeviceConfiguration: Sendable {
  /// Open, and closed when the run is over: they stay when the machine starts anew. One for each pair of queues, 1 to 8, all to the
  /// same place; a Xen domain's interface has one.
  public var links: [any NetworkLink]
  /// The interface's.
  public var address: MACAddress

  /// Takes both.
  public init(_ links: [any NetworkLink], address: MACAddress) {
    self.links = links
    self.address = address
  }

  /// What can't be had of the machine's interfaces.
  static func findings(_ interfaces: [NetworkDeviceConfiguration], isDomain: Bool) -> [Finding] {
    interfaces.compactMap { interface in
      if isDomain, interface.links.count > 1 {
        return Finding(
          .network, "a paravirtual domain's interfaces have one pair of queues: leave the number of queues out")
      }
      guard !(1...VirtioNetwork.pairLimit).contains(interface.links.count) else { return nil }
      return Finding(
        .network,
        "an interface can't have \(interface.links.count) pairs of queues: give 1 to \(VirtioNetwork.pairLimit)")
    }
  }
}

/// A disk: virtio block for the guest, a raw image file or a block device on the host.
public struct StorageDeviceConfiguration: Sendable {
  /// The file or block device.
  public var path: FilePath
  /// Whether the guest's writes are refused.
  public var isReadOnly: Bool
  /// Where the guest's writes go, if not to the image.
  public var changes: DiskChanges?
  /// Queues of requests, 1 to 16; as many as processors, at most 4, if `nil`. A Xen domain's disks have one.
  public var queueCount: Int?
  /// What a Xen domain calls it; xvda and so on, by its position, if `nil`.
  public var domainName: DomainDiskName?

  /// - Parameter isReadOnly: several machines may share a disk that none of them writes.
  public init(
    path: FilePath, isReadOnly: Bool = false, changes: DiskChanges? = nil, queueCount: Int? = nil,
    domainName: DomainDiskName? = nil
  ) {
    self.domainName = domainName
    self.path = path
    self.isReadOnly = isReadOnly
    self.changes = changes
    self.queueCount = queueCount
  }

  /// Each is a thread.
  private static let mostAutomaticQueues = 4

  func queues(processorCount: Int) -> Int { queueCount ?? min(processorCount, Self.mostAutomaticQueues) }

  private var leavesImage: Bool { isReadOnly || changes != nil }

  /// What can't be had of the machine's disks.
  static func findings(_ disks: [StorageDeviceConfiguration], isDomain: Bool) -> [Finding] {
    var findings: [Finding] = []
    if isDomain, disks.count > DomainDiskName.limit {
      findings.append(
        Finding(
          .disk, "a paravirtual domain can't have \(disks.count) disks: give at most \(DomainDiskName.limit)"))
    }
    let names = disks.enumerated().map { $1.domainName ?? DomainDiskName(position: $0) }
    for (index, disk) in disks.enumerated() {
      if disk.isReadOnly, disk.changes != nil {
        findings.append(
          Finding(
            .disk, "\(disk.path) can't be read-only and a snapshot, to which the guest may write: leave one of them out"
          ))
      }
      if let count = disk.queueCount {
        if isDomain {
          findings.append(
            Finding(.disk, "\(disk.path): a paravirtual domain's disks have one queue: leave the number of queues out"))
        } else if !(1...VirtioBlock.queueLimit).contains(count) {
          findings.append(
            Finding(.disk, "\(disk.path) can't have \(count) queues: give 1 to \(VirtioBlock.queueLimit)"))
        }
      }
      if let name = disk.domainName {
        if !isDomain {
          findings.append(
            Finding(.disk, "\(disk.path): only a paravirtual domain's disk can be called \(name): leave the name out"))
        } else if names[..<index].contains(name) || names[(index + 1)...].contains(name) {
          findings.append(Finding(.disk, "two disks are called \(name): give \(disk.path) another name"))
        }
      }
      if disks[..<index].contains(where: { $0.path == disk.path && !($0.leavesImage && disk.leavesImage) }) {
        findings.append(
          Finding(
            .disk, "\(disk.path) is given twice, and the guest may write to it: leave one out, or make both read-only"))
      }
    }
    return findings
  }
}
