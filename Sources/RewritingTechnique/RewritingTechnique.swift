// The rewriting technique: guest code is translated, block by block, into code for the same processor that this process
// can run, without any help of the host's kernel.
//
//     RewritingProcessor   the loop: find or make the block at RIP, run it, answer what it came back for
//     Translator           guest instructions to host instructions
//     GuestMMU             the guest's page tables; SoftwareTLB what translated code sees of them
//     RewritingProcessor+… what Swift does itself: system instructions, segments, exceptions, string instructions
//     CWorldSwitch         into translated code and back
//
// docs/rewriting.md explains how they work together.

import CWorldSwitch
import Devices
import Glibc
import VMM

/// Runs guests by translating their code.
public struct RewritingTechnique: Technique {
  /// Nothing to configure.
  public init() {}

  /// Always `rewriting`.
  public var name: TechniqueName { .rewriting }

  /// What the engine needs of the host is a matter of its processor only.
  public func probe() -> Availability {
    cws_host_has_features() != 0
      ? .available(notes: ["x86-to-x86 translation in user space, one processor, no interrupt controller yet"])
      : .unavailable(
        reason: "the host's processor lacks AVX2, BMI2 or LAHF in 64-bit mode",
        remedy: "use a host of the x86-64-v3 level or another technique")
  }

  /// Small guests run, but not a stock kernel: so that an automatic choice keeps to the hardware where there is any,
  /// even if that emulates guest kernels.
  public func caution() -> String? { "the rewriting technique has no interrupt controller yet" }

  /// Processor features of a named model that the engine does not give; more than one processor.
  public func findings(for configuration: MachineConfiguration) -> [Finding] {
    var findings: [Finding] = []
    if configuration.processorCount > 1 {
      findings.append(
        Finding("--cpus", "the rewriting technique runs one processor, not \(configuration.processorCount)"))
    }
    let missing = reductions(for: configuration)
    if configuration.processorModel.isRequired, !missing.isEmpty, !configuration.processorModel.isHost {
      findings.append(
        Finding(
          "--cpu",
          "the rewriting technique does not give \(missing.map(\.rawValue).joined(separator: ", ")) of "
            + "\(configuration.processorModel.name): leave --cpu out to take what is there"))
    }
    return findings
  }

  /// What is not announced under this technique: virtual-8086 mode is not translated.
  private static let missing: Set<ProcessorFeature> = [.vme]

  /// Features of the model that guests will not see.
  public func reductions(for configuration: MachineConfiguration) -> [ProcessorFeature] {
    Self.features(of: configuration.processorModel).intersection(Self.missing).sorted()
  }

  private static func features(of model: ProcessorModel) -> Set<ProcessorFeature> {
    model.isHost ? ProcessorModel.x86_64v3.features : model.features
  }

  /// - Throws: `TechniqueFailure` naming the host call.
  public func makePartition(
    _ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus
  ) throws(TechniqueFailure) -> any Partition {
    guard cws_host_has_features() != 0 else {
      throw TechniqueFailure(
        call: "CPUID", reason: "the host's processor lacks AVX2, BMI2 or LAHF in 64-bit mode",
        remedy: "use another technique")
    }
    let error = cws_install_handlers()
    guard error == 0 else {
      throw TechniqueFailure(call: "sigaction", reason: String(cString: strerror(error)))
    }
    let features = Self.features(of: configuration.processorModel).subtracting(Self.missing)
    var table = CPUIDTable(
      features: features, processor: 0, of: configuration.processorCount, name: configuration.processorModel.name)
    table.leaves += ClockRegister.leaves
    return try RewritingPartition(memory: memory, bus: bus, identification: table)
  }
}

/// A machine under the rewriting technique.
final class RewritingPartition: Partition {
  let memory: GuestMemory
  let bus: Bus
  let identification: CPUIDTable

  let clock: any ChipsetClock
  let chipset: Chipset
  /// When the clock in guest memory was zero.
  let startTime: UInt64

  init(memory: GuestMemory, bus: Bus, identification: CPUIDTable) throws(TechniqueFailure) {
    self.memory = memory
    self.identification = identification
    clock = HostChipsetClock()
    startTime = clock.nanoseconds
    chipset = Chipset(processorCount: 1, clock: clock)
    do throws(BusConflict) {
      self.bus = try bus.adding(ports: chipset.portClaims, memory: chipset.memoryClaims)
    } catch {
      throw TechniqueFailure(call: "machine assembly", reason: error.description)
    }
  }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    guard index == 0 else {
      throw TechniqueFailure(
        call: "making processor \(index)", reason: "the rewriting technique runs one processor",
        remedy: "ask for --cpus 1")
    }
    return try RewritingProcessor(partition: self)
  }

  var interrupts: any InterruptController { chipset }
}
