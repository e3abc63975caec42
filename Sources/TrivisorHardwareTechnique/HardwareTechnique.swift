// The hardware-assisted technique: the processor's own virtualization extension, through KVM.
//
// A privileged instruction of the guest needs no help of ours: the processor has a mode for guests in which the guest's
// kernel runs in ring 0 of its own, and leaves it (an exit) when something must be done outside. Read in this order:
// `KVMPartition` (how a machine is set up), `KVMProcessor` (the run loop), `KVMProcessor+State` (registers in and out).

import CKVM
import Synchronization
import TrivisorVMM

/// Runs guests on `/dev/kvm`.
public struct HardwareTechnique: Technique {
  /// The device, opened when first needed and kept: choosing the technique, judging a configuration and making a machine
  /// all ask it.
  private final class Host: Sendable {
    private let path: String
    private let opened = Mutex<KVMSystem?>(nil)

    init(path: String) { self.path = path }

    func system() throws(TechniqueFailure) -> KVMSystem {
      if let system = opened.withLock({ $0 }) { return system }
      let system = try KVMSystem(path: path)
      opened.withLock { $0 = system }
      return system
    }
  }

  private let host: Host

  /// - Parameter path: the device; another one only in tests.
  public init(path: String = "/dev/kvm") { host = Host(path: path) }

  /// Always `hardware`.
  public var name: TechniqueName { .hardware }

  /// Opens the device and checks what is needed; makes no machine.
  public func probe() -> Availability {
    do throws(TechniqueFailure) {
      let system = try host.system()
      return .available(notes: HostVirtualization.describe(system: system))
    } catch {
      return .unavailable(reason: "\(error.call) failed: \(error.reason)", remedy: error.remedy)
    }
  }

  /// Measures guest kernel code, in a few milliseconds.
  public func caution() -> String? {
    guard let system = try? host.system(), let price = KernelCodeProbe.priceOfEmulation(system: system) else {
      return nil
    }
    return "this host's KVM emulates guest kernel code, at about \(Int(price)) ns an instruction"
  }

  /// Processor features that this host's KVM does not offer, if the model was named; more processors than it takes.
  public func findings(for configuration: MachineConfiguration) -> [Finding] {
    guard let system = try? host.system() else { return [] }
    var findings: [Finding] = []
    let most = max(system.check(KVM_CAP_MAX_VCPUS), 1)
    if configuration.processorCount > most {
      findings.append(
        Finding(
          .processors,
          "this host's KVM runs at most \(most) processors, not \(configuration.processorCount): ask for fewer"))
    }
    if configuration.interruptChips == .software, configuration.processorCount > 1 {
      findings.append(
        Finding(
          .interruptChips,
          "in software they serve one processor, not \(configuration.processorCount): set \(Setting.processors) to 1"))
    }
    let missing = missingFeatures(of: configuration, system: system)
    if configuration.processorModel.isRequired, !missing.isEmpty {
      findings.append(
        Finding(
          .processorModel,
          """
          this host's KVM does not offer \(missing.map(\.rawValue).joined(separator: ", ")) of \
          \(configuration.processorModel.name): ask for a lesser model, or leave \(Setting.processorModel) out to take \
          what is there
          """))
    }
    return findings
  }

  /// What of the default model the guest will not see here; empty where the host offers all or the model was named.
  public func reductions(for configuration: MachineConfiguration) -> [ProcessorFeature] {
    guard let system = try? host.system() else { return [] }
    return missingFeatures(of: configuration, system: system)
  }

  /// KVM maps what this process has mapped.
  public var sharesMemory: Bool { false }

  /// - Throws: `TechniqueFailure` naming the KVM call.
  public func makePartition(
    _ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus
  ) throws(TechniqueFailure) -> any Partition {
    let system = try host.system()
    let announcement = try announcement(configuration, system: system)
    return try KVMPartition(
      system: system, configuration: configuration, announcement: announcement, memory: memory, bus: bus)
  }

  private func announcement(
    _ configuration: MachineConfiguration, system: KVMSystem
  ) throws(TechniqueFailure) -> ProcessorAnnouncement {
    ProcessorAnnouncement(
      configuration.processorModel, supported: try system.supportedCPUID(),
      hasDeadlineTimer: system.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
      hasKernelChips: configuration.interruptChips != .software)
  }

  private func missingFeatures(of configuration: MachineConfiguration, system: KVMSystem) -> [ProcessorFeature] {
    (try? announcement(configuration, system: system).missing) ?? []
  }
}
