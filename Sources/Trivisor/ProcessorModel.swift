import TrivisorVMM

/// The processor that a guest sees.
public struct ProcessorModel: Sendable, Hashable, CustomStringConvertible {
  /// As the command line spells it.
  public let name: String
  let model: TrivisorVMM.ProcessorModel

  private init(_ model: TrivisorVMM.ProcessorModel) {
    name = model.name
    self.model = model
  }

  /// x86-64-v3, as far as this host has it: what is left out is no finding.
  public static let `default` = ProcessorModel(.default)
  /// The first x86-64 processors' features.
  public static let x86_64v1 = ProcessorModel(.x86_64v1)
  /// With SSE4.2 and POPCNT.
  public static let x86_64v2 = ProcessorModel(.x86_64v2)
  /// With AVX2, BMI2 and FMA; a host that lacks one of them is a finding.
  public static let x86_64v3 = ProcessorModel(.x86_64v3)
  /// All that the technique can give on this host.
  public static let host = ProcessorModel(.host)

  static let all = [`default`, x86_64v1, x86_64v2, x86_64v3, host]

  /// By name.
  public static func == (lhs: ProcessorModel, rhs: ProcessorModel) -> Bool { lhs.model == rhs.model }

  /// By name.
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }

  /// Its name.
  public var description: String { name }
}
