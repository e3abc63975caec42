import TrivisorX86

/// What a boot loader hands over to a technique, beside the memory that it has filled: where a guest begins.
public enum Handover: Sendable, Equatable {
  /// The bootstrap processor's registers, on a machine.
  case processor(ProcessorStart)
  /// A domain of Xen's paravirtual interface, made by a domain builder.
  case xenDomain(XenDomainStart)

  /// Without what it says.
  public enum Kind: Sendable, Equatable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    case processor, xenDomain
  }

  /// Which of them it is.
  public var kind: Kind {
    switch self {
    case .processor: .processor
    case .xenDomain: .xenDomain
    }
  }
}

/// The bootstrap processor before a guest's first instruction; what is not here is as after RESET.
public struct ProcessorStart: Sendable, Equatable {
  /// The integer registers.
  public var general: GeneralRegisters
  /// Segments, tables and control registers; the base of the local APIC is the technique's.
  public var system: SystemRegisters

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(general: GeneralRegisters, system: SystemRegisters) {
    self.general = general
    self.system = system
  }

  /// Puts a processor, otherwise as after RESET, before the first instruction.
  public func apply(to state: inout MachineState) {
    let apicBase = state.system.apicBase
    state.general = general
    state.system = system
    state.system.apicBase = apicBase
    state.activity = .running
    state.adoptFirmware()
  }
}

extension MachineState {
  /// What a PC's firmware has set on every processor before a guest begins: the memory type range registers are on, and memory
  /// is write-back. Linux takes them for broken when they are off, and leaves the page attribute table alone.
  /// (AMD64 APM vol. 2, 7.7.2, "MTRR default memory type".)
  mutating func adoptFirmware() {
    self[modelSpecific: MSR.memoryTypeDefault] = MSR.memoryTypesEnabled | MSR.memoryTypeWriteBack
  }
}

/// A Xen domain before its first instruction (Xen's public header xen.h, "Guest start of day"): page tables, `start_info` and
/// all that it names are in memory.
public struct XenDomainStart: Sendable, Equatable {
  /// Of 64 bits, or of 32 bits with PAE.
  public var is64Bit: Bool
  /// The first instruction's address.
  public var entry: UInt64
  /// The end of the boot stack.
  public var stack: UInt64
  /// The address of `start_info`.
  public var startInfo: UInt64
  /// The machine frame of the root of the page tables.
  public var rootFrame: UInt64

  /// Whether it is linked for the upper half of the address space, of which a process of the host has nothing.
  public var isInUpperHalf: Bool { startInfo >> 47 != 0 }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(is64Bit: Bool, entry: UInt64, stack: UInt64, startInfo: UInt64, rootFrame: UInt64) {
    self.is64Bit = is64Bit
    self.entry = entry
    self.stack = stack
    self.startInfo = startInfo
    self.rootFrame = rootFrame
  }
}
