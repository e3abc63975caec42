/// The size of code that a processor executes, from CS.L and CS.D (AMD64 APM vol. 2, 4.8.2).
///
/// Real mode and virtual-8086 mode run 16-bit code; what they forbid beyond that (VEX encodings, the system
/// instructions of protected mode) depends on CR0.PE and RFLAGS.VM and is for the executing engine to check.
public enum CPUMode: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case bits16, bits32, bits64

  /// Width in bytes of operands that no prefix changes.
  public var defaultOperandSize: UInt8 { self == .bits16 ? 2 : 4 }

  /// Width in bytes of addresses that no prefix changes. Stack addresses are assumed to have it too: where SS.B
  /// differs from CS.D, the engine knows.
  public var defaultAddressSize: UInt8 { 2 << rawValue }
}
