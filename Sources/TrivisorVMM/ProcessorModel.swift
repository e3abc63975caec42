// The processor that a guest sees.
//
// The same guest under three techniques needs the same processor, so a model is a name and a list of features, not
// whatever the host happens to have. The vendor is fixed, because it decides semantics (SYSENTER in long mode, SYSCALL in
// compatibility mode, null selectors): AuthenticAMD.

/// What CPUID is to say.
public struct ProcessorModel: Sendable, Equatable {
  /// As `--cpu` takes it.
  public let name: String
  /// What is announced; for `host`, empty: what the technique can give.
  public let features: Set<ProcessorFeature>
  /// What models have beside their levels, as AMD's processors of family 1Ah do: for kernels, or a fact about the processor. A
  /// technique gives what it can of them, and none is missed.
  public let companions: Set<ProcessorFeature>
  /// Whether a feature that a technique lacks is refused (the user named the model) or left out and reported (the model
  /// is the default).
  public var isRequired: Bool

  private init(_ name: String, _ features: Set<ProcessorFeature>) {
    self.name = name
    self.features = features
    // PKRU is a part of what XSAVE stores.
    companions = features.isEmpty || features.contains(.xsave) ? Self.beside.union([.pku]) : Self.beside
    self.isRequired = true
  }

  private static let baseline: Set<ProcessorFeature> = [
    .fpu, .de, .pse, .tsc, .msr, .pae, .mce, .cx8, .apic, .sep, .mtrr, .pge, .mca, .cmov, .pat, .pse36, .clflush,
    .mmx, .fxsr, .sse, .sse2, .x2apic, .tsc_deadline_timer, .hypervisor, .syscall, .nx, .lm, .nonstop_tsc,
  ]
  private static let beside: Set<ProcessorFeature> = [
    .vme, .pcid, .tsc_adjust, .invpcid, .umip, .rdpid, .topoext, .mmxext, .no_nested_data_bp, .lfence_rdtsc,
    .null_sel_clr_base, .autoibrs, .srso_user_kernel_no,
  ]
  private static let second: Set<ProcessorFeature> = [
    .pni, .ssse3, .cx16, .sse4_1, .sse4_2, .popcnt, .lahf_lm, .rdtscp,
  ]
  private static let third: Set<ProcessorFeature> = [
    .pclmulqdq, .fma, .movbe, .aes, .xsave, .avx, .f16c, .rdrand, .fsgsbase, .bmi1, .avx2, .smep, .bmi2, .adx,
    .smap, .clflushopt, .xsaveopt, .abm, .pdpe1gb, .xsaveerptr,
  ]

  /// The x86-64 psABI's baseline with what a modern kernel's timers want.
  public static let x86_64v1 = ProcessorModel("x86-64-v1", baseline)
  /// Adds SSE3 to SSE4.2, POPCNT, CMPXCHG16B, LAHF (psABI level 2).
  public static let x86_64v2 = ProcessorModel("x86-64-v2", baseline.union(second))
  /// Adds AVX, AVX2, BMI, FMA, MOVBE (psABI level 3) and AES, RDRAND, FSGSBASE, SMEP, SMAP, 1 GiB pages.
  public static let x86_64v3 = ProcessorModel("x86-64-v3", baseline.union(second).union(third))
  /// Whatever the technique can give on this host: not the same everywhere. Under hardware and paravirtual that is the host's
  /// vendor, too; under rewriting it is AMD's semantics with the features that the host has.
  public static let host = ProcessorModel("host", [])

  /// All that `--cpu` takes.
  public static let all = [x86_64v1, x86_64v2, x86_64v3, host]

  /// `x86_64v3`, of which a technique leaves out, and says so, what its host lacks.
  public static let `default`: ProcessorModel = {
    var model = x86_64v3
    model.isRequired = false
    return model
  }()

  /// The model of that name, required as named, or `nil`.
  public static func named(_ name: String) -> ProcessorModel? { all.first { $0.name == name } }

  /// Whether this is "whatever the host gives".
  public var isHost: Bool { name == Self.host.name }
}
