import TrivisorInstructionSet
import Testing

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation
@testable import TrivisorVMM

/// Guests are told only what the host can execute.
@Suite("Announced features")
struct NativeFeaturesTests {
  private func host(without missing: Set<ProcessorFeature>) -> HostProcessor {
    HostProcessor { function, index in
      var leaf = CPUIDLeaf(function, eax: .max, ebx: .max, ecx: .max, edx: .max)
      for feature in missing where feature.location.function == function && feature.location.index == index {
        leaf[feature.location.register] &= ~(1 << UInt32(feature.location.bit))
      }
      return leaf
    } extendedControl: {
      7
    } hasSegmentBases: {
      true
    }
  }

  private static let removed: [ProcessorFeature] = [.pclmulqdq, .fma, .movbe, .aes, .f16c, .adx, .clflushopt]

  private func configuration(_ model: ProcessorModel) -> MachineConfiguration {
    var configuration = MachineConfiguration()
    configuration.processorModel = model
    configuration.memorySize = 1 << 20
    return configuration
  }

  private func partition(_ model: ProcessorModel, on host: HostProcessor) throws -> RewritingPartition {
    let configuration = configuration(model)
    let made = try RewritingTechnique(host: host).makePartition(
      configuration, memory: GuestMemory(size: configuration.memorySize), bus: Bus())
    return try #require(made as? RewritingPartition)
  }

  @Test("the default model is reduced by what the host lacks, in CPUID and in what is decoded")
  func reduced() throws {
    let technique = RewritingTechnique(host: host(without: Set(Self.removed)))
    #expect(technique.reductions(for: configuration(.default)) == Self.removed)
    #expect(technique.findings(for: configuration(.default)).isEmpty)
    let table = try partition(.default, on: host(without: Set(Self.removed))).identifications[0]
    for feature in ProcessorModel.default.features {
      #expect(table.has(feature) == !Self.removed.contains(feature), "\(feature)")
    }
    let announced = AnnouncedFeatures(table)
    for feature in [Feature.pclmul, .fma, .movbe, .aes, .f16c, .adx, .clflushopt] {
      #expect(!announced.contains(feature), "\(feature)")
    }
    #expect(announced.contains(.avx2) && announced.contains(.bmi1) && announced.contains(.clflush))
  }

  @Test("a model that was asked for by name is refused, with the names of what is missing")
  func refused() throws {
    let technique = RewritingTechnique(host: host(without: [.movbe, .adx]))
    let finding = try #require(technique.findings(for: configuration(.x86_64v3)).first)
    #expect(finding.description.contains("does not give movbe, adx of x86-64-v3"))
    #expect(technique.findings(for: configuration(.x86_64v2)).isEmpty)
  }

  @Test("host is what the host has, and never refused")
  func asTheHost() throws {
    let lesser = host(without: [.movbe])
    #expect(RewritingTechnique(host: lesser).findings(for: configuration(.host)).isEmpty)
    #expect(RewritingTechnique(host: lesser).reductions(for: configuration(.host)).isEmpty)
    let table = try partition(.host, on: lesser).identifications[0]
    #expect(!table.has(.movbe) && table.has(.avx2))
  }

  @Test("what the engine itself needs is a refusal by name", arguments: [ProcessorFeature.avx2, .bmi2, .lahf_lm])
  func engine(feature: ProcessorFeature) throws {
    let technique = RewritingTechnique(host: host(without: [feature]))
    guard case .unavailable(let reason, _) = technique.probe() else {
      Issue.record("available without \(feature)")
      return
    }
    #expect(reason.contains("the engine needs \(feature.rawValue), which the host's processor lacks"))
    #expect(throws: TechniqueFailure.self) { try partition(.default, on: host(without: [feature])) }
  }

  @Test("what software of ours does is there on any host")
  func software() {
    let software: Set<ProcessorFeature> = [.rdrand, .xsave, .xsaveopt, .fsgsbase, .smep, .smap, .pdpe1gb, .rdtscp]
    #expect(RewritingTechnique(host: host(without: software)).reductions(for: configuration(.default)).isEmpty)
  }
}
