import TrivisorBoot
import TrivisorDevices
import TrivisorFileServer
import TrivisorNetworking
import TrivisorPlatform
import TrivisorVMM

/// Everything that makes a machine, as a value: it can be made, copied and checked without touching the host.
public struct VirtualMachineConfiguration: Sendable {
  /// What becomes of a guest that resets its machine without having given an exit code.
  public enum ResetPolicy: Sendable {
    /// The run ends with `Outcome.reset`.
    case end
    /// The machine starts anew from its image, unless its kernel panicked.
    case restart
  }

  /// Where interrupt controllers and timers are under the hardware technique.
  public enum InterruptChips: Sendable {
    /// KVM's own, where it has them.
    case automatic
    /// KVM's own.
    case kernel
    /// Trivisor's, as under the rewriting technique.
    case software
  }

  /// How the guest reaches virtio devices.
  public enum VirtioTransport: Sendable, Hashable, CaseIterable {
    /// As a Linux kernel can that runs a `LinuxCommand`: over MMIO if it has both ways. Others over MMIO.
    case automatic
    /// Pages of registers, which ACPI tables name.
    case mmio
    /// Functions of a PCI bus, with MSI-X.
    case pci
  }

  /// In which process the machine runs.
  public enum Isolation: Sendable {
    /// In the caller's: a fault of an engine, or a guest that has found a hole in one, is the caller's.
    case inProcess
    /// In a process of its own, which is this program once more and gives up, before the guest begins, what the run does not
    /// need (docs/security.md). If it is lost, the outcome says so, and nothing else happens to the caller.
    case worker
  }

  /// What it runs.
  public var bootLoader: any BootLoader
  /// By which technique.
  public var technique = TechniqueRequest.automatic
  /// 1 to 255; what a technique allows is in `validate()`.
  public var processorCount = 1
  /// What the guest is told that it runs on.
  public var processorModel = ProcessorModel.default
  /// The guest's memory; 128 MiB, or what a `LinuxCommand` needs, when `nil`.
  public var memorySize: ByteCount?
  /// Local APICs, I/O APIC, 8259s and 8254.
  public var interruptChips = InterruptChips.automatic
  /// The bus of all virtio devices.
  public var virtioTransport = VirtioTransport.automatic
  /// COM1 to COM4, as many as there are.
  public var serialPorts: [SerialPortConfiguration] = []
  /// Linux' hvc0, if there is one: then it has the machine's input.
  public var virtioConsole: VirtioConsoleConfiguration?
  /// Disks, in the order in which the guest finds them.
  public var storageDevices: [StorageDeviceConfiguration] = []
  /// Network interfaces, in the order in which the guest finds them.
  public var networkDevices: [NetworkDeviceConfiguration] = []
  /// Folders of the host's, in the order in which the guest finds them.
  public var directorySharingDevices: [DirectorySharingDeviceConfiguration] = []
  /// Sources of random numbers; at most one.
  public var entropyDevices = [EntropyDeviceConfiguration()]
  /// Sockets between host and guest; at most one device.
  public var socketDevices: [SocketDeviceConfiguration] = []
  /// Memory that can be taken from the guest; at most one device.
  public var memoryBalloonDevices: [MemoryBalloonDeviceConfiguration] = []
  /// What a Linux guest is to run in the place of its own first process.
  public var linuxCommand: LinuxCommand?
  /// How long all lives of the machine may take together.
  public var timeLimit: Duration?
  /// What becomes of a guest that resets its machine.
  public var resetPolicy = ResetPolicy.end
  /// In which process the machine runs.
  public var isolation = Isolation.inProcess

  /// One processor, and nothing at its ports.
  public init(bootLoader: any BootLoader) { self.bootLoader = bootLoader }

  /// Every request that can't be honoured, for each technique. Looks at the image and the host, and changes nothing; what is
  /// not found here, only the host or the image's insides can still refuse. Folders that a `LinuxCommand` packs are looked
  /// at when it is run.
  public func validate() -> ValidationReport {
    var findings: [Technique: [ConfigurationError]] = [:]
    for technique in Technique.allCases { findings[technique] = self.findings(for: technique) }
    return ValidationReport(findings: findings)
  }

  private func findings(for technique: Technique) -> [ConfigurationError] {
    guard let engine = Technique.all.techniques.first(where: { $0.name == technique.name }) else { return [] }
    var found: [ConfigurationError] = []
    if case .unavailable(let reason) = technique.availability {
      found.append(ConfigurationError(Sentence(reason), about: "technique"))
    }
    if case .named(let other) = self.technique, other != technique {
      found.append(ConfigurationError("\(other.rawValue) is asked for", about: "technique"))
    }
    found += ownFindings()
    do throws(ConfigurationError) {
      let request = try bootLoader.plan.request(technique == .paravirtual)
      if let finding = Self.entryFinding(request, technique) {
        found.append(ConfigurationError(finding, about: "bootLoader"))
      }
      var plan = platformConfiguration(request, memory: memorySize ?? Self.defaultMemory, whenBroken: nil)
      // Nothing is started to find out whether it could be; and what is no number of queues is told of already.
      plan.networkDevices = networkDevices.map { device in
        TrivisorPlatform.NetworkDeviceConfiguration(
          Array(repeating: UnpluggedLink(), count: device.finding() == nil ? device.queueCount : 1), address: .random())
      }
      // Of those, the guest's writes don't reach the image; where they would go is made with the machine.
      for (index, disk) in storageDevices.enumerated() where disk.isSnapshot {
        plan.storageDevices[index].isReadOnly = true
      }
      found += plan.validate(for: engine).map { ConfigurationError($0) }
      if !socketDevices.isEmpty, technique == .paravirtual {
        found.append(ConfigurationError("a paravirtual domain has no virtio devices", about: "socketDevices"))
      }
    } catch {
      found.append(error)
    }
    return found
  }

  /// What keeps the image from beginning under a technique.
  private static func entryFinding(_ request: BootRequest, _ technique: Technique) -> Sentence? {
    guard technique == .paravirtual else {
      return request.obstacleOutsideDomain?.sentence
    }
    do throws(BootFailure) {
      return try request.hasDomainEntry() ? nil : "the image is no kernel for Xen's paravirtual interface"
    } catch { return error.sentence }
  }

  static let defaultMemory = ByteCount.mebibytes(128)

  /// What the types allow and no machine has.
  func ownFindings() -> [ConfigurationError] {
    var found: [ConfigurationError] = []
    if entropyDevices.count > 1 {
      found.append(
        ConfigurationError("\(entropyDevices.count) can't be had: ask for one", about: "entropyDevices"))
    }
    if socketDevices.count > 1 {
      found.append(ConfigurationError("\(socketDevices.count) can't be had: ask for one", about: "socketDevices"))
    }
    for device in socketDevices where !VirtioSocket.identifiers.contains(device.contextIdentifier) {
      let range = VirtioSocket.identifiers
      found.append(
        ConfigurationError(
          "the guest can't have the address \(device.contextIdentifier): give \(range.lowerBound) to \(range.upperBound)",
          about: "socketDevices"))
    }
    if isolation == .worker {
      let asked = [("socketDevices", !socketDevices.isEmpty), ("memoryBalloonDevices", !memoryBalloonDevices.isEmpty)]
      for (name, isAsked) in asked where isAsked {
        found.append(
          ConfigurationError(
            "a machine in a worker has none of them: leave them out, or set isolation to .inProcess", about: name))
      }
    }
    if memoryBalloonDevices.count > 1 {
      found.append(
        ConfigurationError("\(memoryBalloonDevices.count) can't be had: ask for one", about: "memoryBalloonDevices"))
    }
    let firstTaker = virtioConsole == nil && linuxCommand == nil ? 1 : 0
    for (index, port) in serialPorts.enumerated() where index >= firstTaker && port.input != nil {
      found.append(
        ConfigurationError(
          "number \(index + 1) can't have an input: a machine has one console that reads, its command, its virtio console"
            + " or its first serial port", about: "serialPorts"))
    }
    if virtioConsole?.input != nil, linuxCommand != nil {
      found.append(ConfigurationError("its input is the command's: leave it out", about: "virtioConsole"))
    }
    for device in directorySharingDevices
    where device.tag.isEmpty || device.tag.utf8.count > 36 || device.tag.contains(":") {
      found.append(
        ConfigurationError(
          "the tag '\(device.tag)' can't be had: give 1 to 36 bytes without a colon", about: "directorySharingDevices"))
    }
    for disk in storageDevices where disk.isReadOnly && disk.isSnapshot {
      found.append(
        ConfigurationError(
          "\(disk.path) can't be read-only and a snapshot, to which the guest may write: leave one of them out",
          about: "storageDevices"))
    }
    for case (let disk, let name?) in storageDevices.map({ ($0, $0.domainName) }) where DomainDiskName(name) == nil {
      found.append(
        ConfigurationError(
          "\(disk.path) can't be called '\(name)' by a domain: a disk is \(DomainDiskName.names)",
          about: "storageDevices"))
    }
    for device in networkDevices {
      if let finding = device.finding() {
        found.append(ConfigurationError(Sentence(finding), about: "networkDevices"))
      }
    }
    if isolation == .worker, !WorkerProcess.canBeMade {
      found.append(
        ConfigurationError(
          "a worker is this program once more, which must have the library in itself: link it statically, or run the"
            + " machine in process", about: "isolation"))
    }
    if let timeLimit, timeLimit <= .zero {
      found.append(ConfigurationError("\(timeLimit) is no time: give more, or none", about: "timeLimit"))
    }
    return found
  }

  /// As the platform takes it, without the command.
  /// - Parameter whenBroken: somebody does not read any more what the guest writes; `nil` where nothing will be written.
  func platformConfiguration(
    _ request: BootRequest, memory: ByteCount, whenBroken: (@Sendable (Errno) -> Void)?
  ) -> PlatformConfiguration {
    var plan = PlatformConfiguration(boot: request)
    plan.machine.processorCount = processorCount
    plan.machine.memorySize = memory.bytes
    plan.machine.processorModel = processorModel.model
    plan.machine.interruptChips =
      switch interruptChips {
      case .automatic: .automatic
      case .kernel: .kernel
      case .software: .software
      }
    plan.serialPorts = serialPorts.map { port in
      TrivisorPlatform.SerialPortConfiguration(
        output: port.output.sink(whenBroken: whenBroken), input: port.input?.input)
    }
    plan.virtioConsole = virtioConsole.map { console in
      TrivisorPlatform.VirtioConsoleConfiguration(
        output: console.output.sink(whenBroken: whenBroken), input: console.input?.input,
        size: console.size.map { VirtioConsole.Size(columns: $0.columns, rows: $0.rows) })
    }
    plan.storageDevices = storageDevices.map { disk in
      TrivisorPlatform.StorageDeviceConfiguration(
        path: disk.path, isReadOnly: disk.isReadOnly, queueCount: disk.queueCount,
        domainName: disk.domainName.flatMap { DomainDiskName($0) })
    }
    if linuxCommand == nil {
      plan.sharedFolders = directorySharingDevices.map { device in
        SharedFolderConfiguration(SharedFolder(path: device.path, isReadOnly: device.isReadOnly), tag: device.tag)
      }
    }
    plan.hasEntropyDevice = !entropyDevices.isEmpty
    plan.memoryBalloon = memoryBalloonDevices.first.map { MemoryBalloonConfiguration(size: $0.size.bytes) }
    plan.virtioTransport = virtioTransport.kind ?? .mmio
    plan.requiresVirtioTransport = virtioTransport != .automatic
    plan.resetPolicy = resetPolicy == .restart ? .restart : .failure
    return plan
  }

  var outputs: [OutputAttachment] {
    serialPorts.map(\.output)
      + [virtioConsole?.output, linuxCommand?.standardOutput, linuxCommand?.standardError].compactMap { $0 }
  }

  var inputs: [InputAttachment] {
    serialPorts.compactMap(\.input) + [virtioConsole?.input, linuxCommand?.standardInput].compactMap { $0 }
  }
}

extension VirtualMachineConfiguration.VirtioTransport {
  /// What was asked for, if anything.
  var kind: VirtioTransportKind? {
    switch self {
    case .automatic: nil
    case .mmio: .mmio
    case .pci: .pci
    }
  }
}
