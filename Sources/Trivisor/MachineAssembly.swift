import TrivisorBoot
import TrivisorCommandChannel
import TrivisorConfinement
import TrivisorDevices
import TrivisorLinuxCommands
import TrivisorNetworking
import TrivisorPlatform
import TrivisorVMM

/// From a configuration to a machine of the platform's, with a technique chosen.
struct MachineAssembly {
  let machine: TrivisorPlatform.VirtualMachine
  let choice: TechniqueChoice
  var options: RunOptions
  let missingFeatures: [String]
  /// What it needs of its process.
  let needs: ConfinementNeeds

  /// - Parameter whenBroken: nobody reads what the guest writes any more.
  /// - Throws: `VirtualMachineError`; nothing has been made.
  init(
    _ configuration: VirtualMachineConfiguration, whenBroken: @escaping @Sendable () -> Void
  ) throws(VirtualMachineError) {
    let own = configuration.ownFindings()
    guard own.isEmpty else { throw .configuration(own) }
    var request: BootRequest
    do throws(ConfigurationError) {
      request = try configuration.bootLoader.plan.request(configuration.technique == .named(.paravirtual))
    } catch { throw .configuration([error]) }
    let isParavirtual = request.isParavirtualKernel
    // Those of a machine that can't be had end with the list.
    let networks = try Self.openNetworks(configuration)
    let command = try Self.prepareCommand(configuration, networks, &request)
    var plan = configuration.platformConfiguration(
      request,
      memory: configuration.memorySize ?? command.map { ByteCount(bytes: $0.memory) }
        ?? VirtualMachineConfiguration.defaultMemory,
      whenBroken: { _ in whenBroken() })
    plan.networkDevices = networks.map {
      TrivisorPlatform.NetworkDeviceConfiguration($0.links, address: $0.hardwareAddress)
    }
    if let linux = configuration.linuxCommand, let command, let order = command.order {
      do throws(CommandOrder.Refusal) {
        let channel = try CommandChannel(
          order, output: linux.standardOutput.sink(whenBroken: { _ in whenBroken() }),
          errorOutput: linux.standardError.sink(whenBroken: { _ in whenBroken() }))
        plan.command = CommandConfiguration(channel: channel, input: linux.standardInput?.input)
      } catch {
        throw .configuration([ConfigurationError(Sentence(error.description), about: "linuxCommand")])
      }
      plan.sharedFolders = command.shares
      plan.virtioTransport = command.transport
      // A kernel finds the command's port as its second one.
      if plan.serialPorts.isEmpty {
        plan.serialPorts = [SerialPortConfiguration(output: .discarded)].map {
          TrivisorPlatform.SerialPortConfiguration(output: $0.output.sink(whenBroken: nil))
        }
      }
    }
    do throws(DeviceFailure) {
      for (index, disk) in configuration.storageDevices.enumerated() where disk.isSnapshot {
        plan.storageDevices[index].changes = try DiskChanges()
      }
    } catch { throw VirtualMachineError(MachineFailure.device(error)) }
    do throws(DeviceFailure) {
      if let socket = configuration.socketDevices.first {
        plan.socketDevice = TrivisorPlatform.SocketDeviceConfiguration(
          gate: try SocketGate(path: socket.path), identifier: socket.contextIdentifier)
      }
    } catch  where !error.isShortage {
      throw .configuration([ConfigurationError(Sentence(error.description), about: "socketDevices")])
    } catch { throw .host(error.description) }
    let chosen: TrivisorPlatform.TechniqueChoice
    do throws(NoTechnique) {
      chosen = try Technique.all.choose(
        configuration.technique.request, isParavirtualKernel: isParavirtual,
        findings: { [plan] technique in plan.validate(for: technique) })
    } catch { throw .host(error.sentence.text { $0.property }) }
    let findings = plan.validate(for: chosen.technique)
    guard findings.isEmpty else { throw .configuration(findings.map { ConfigurationError($0) }) }
    choice = TechniqueChoice(
      technique: Technique(chosen.technique.name),
      isTranslated: chosen.technique.handoverKind == .xenDomain && (try? plan.boot.isDomainOfUpperHalf()) == true,
      reason: chosen.reason.text { $0.property })
    missingFeatures =
      plan.machine.processorModel.isRequired
      ? [] : chosen.technique.reductions(for: plan.machine).map(\.rawValue)
    machine = TrivisorPlatform.VirtualMachine(plan, technique: chosen.technique)
    var needs = ConfinementNeeds(plan, technique: chosen.technique.name, packed: command?.packed ?? [])
    needs.takesConnections = networks.contains(where: \.acceptsConnections)
    self.needs = needs
    var options = RunOptions()
    options.timeLimit = configuration.timeLimit.map { limit in
      let (seconds, attoseconds) = limit.components
      let (whole, overflow) = UInt64(max(seconds, 0)).multipliedReportingOverflow(by: 1_000_000_000)
      return overflow ? .max : whole &+ UInt64(max(attoseconds, 0) / 1_000_000_000)
    }
    self.options = options
  }

  private static func openNetworks(
    _ configuration: VirtualMachineConfiguration
  ) throws(VirtualMachineError) -> [GuestNetwork] {
    var networks: [GuestNetwork] = []
    for device in configuration.networkDevices {
      do throws(NetworkFailure) {
        networks.append(try device.open())
      } catch {
        guard error.isUsage else { throw .host(error.sentence.text { $0.property }) }
        throw .configuration([ConfigurationError(error.sentence, about: "networkDevices")])
      }
    }
    return networks
  }

  /// Adds archives and words for the kernel, and says what it takes.
  private static func prepareCommand(
    _ configuration: VirtualMachineConfiguration, _ networks: [GuestNetwork], _ request: inout BootRequest
  ) throws(VirtualMachineError) -> LinuxCommandHost.Result? {
    guard let linux = configuration.linuxCommand else { return nil }
    var workplace = linux.workplace(sharing: configuration.directorySharingDevices)
    workplace.networks = networks.map { WorkplaceNetwork($0) }
    var host = LinuxCommandHost(command: linux.order, options: workplace)
    host.memory = configuration.memorySize?.bytes
    host.wantsKernelLog = !configuration.serialPorts.isEmpty
    host.hasDisks = !configuration.storageDevices.isEmpty
    host.isDomain =
      switch configuration.technique {
      case .named(let technique): technique.name == .paravirtual
      case .automatic: request.isParavirtualKernel
      }
    host.hasVirtioConsole = configuration.virtioConsole != nil
    host.hasSockets = !configuration.socketDevices.isEmpty
    host.hasBalloon = !configuration.memoryBalloonDevices.isEmpty
    host.transport = configuration.virtioTransport.kind
    host.imagePath = configuration.bootLoader.plan.imagePath
    do {
      return try host.prepare(&request)
    } catch let refusal as WorkplaceRefusal {
      throw .configuration([ConfigurationError(refusal.sentence, about: "linuxCommand")])
    } catch let failure as BootFailure {
      throw .configuration([ConfigurationError(failure.sentence, about: "linuxCommand")])
    } catch {
      throw .host("\(error)")
    }
  }
}

extension TechniqueRequest {
  var request: TrivisorPlatform.TechniqueRequest {
    switch self {
    case .automatic: .automatic
    case .named(let technique): .named(technique.name)
    }
  }
}

extension VirtualMachineError {
  init(_ failure: MachineFailure) {
    let text = failure.sentence.text { $0.property }
    self =
      switch failure {
      case .boot(let failure) where !failure.isHosts:
        .configuration([ConfigurationError(failure.sentence, about: "bootLoader")])
      case .device(let failure) where !failure.isShortage:
        .configuration([ConfigurationError(Sentence(failure.description), about: "storageDevices")])
      default: .host(text)
      }
  }
}
