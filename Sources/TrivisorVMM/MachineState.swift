// A processor between two instructions: one type for every technique.
//
// The debugger, snapshots, the conformance tests, the report of a crash and the change of technique in mid-run are
// written once against this; each technique converts at its edge. Reset values are those of AMD64 APM vol. 2, table
// 14-1 (the same as Intel SDM vol. 3, table 10-1, where they matter here).

/// All architectural state of one processor (AMD64 APM vol. 2, chapters 3 and 14).
public struct MachineState: SavedState {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let version = 1

  /// The integer registers, RIP and RFLAGS.
  public var general = GeneralRegisters()
  /// Segments, tables, control registers.
  public var system = SystemRegisters()
  /// Breakpoints.
  public var debug = DebugRegisters()
  /// x87, SSE, AVX and their control, as XSAVE lays them out.
  public var extended = ExtendedState()
  /// The model-specific registers that have no field of their own.
  public var modelSpecific: [ModelSpecificRegister] = []
  /// What is about to be delivered.
  public var events = PendingEvents()
  /// Whether it runs, sleeps or waits to be started.
  public var activity = Activity.running
  /// The local APIC's register page (1 KiB, xAPIC layout); empty where the technique has no such chip.
  public var localAPIC: [UInt8] = []

  /// The state after RESET.
  public init() {}

  /// The value of a model-specific register, if this state carries it.
  public subscript(modelSpecific index: UInt32) -> UInt64? {
    get { modelSpecific.first { $0.index == index }?.value }
    set {
      modelSpecific.removeAll { $0.index == index }
      if let newValue { modelSpecific.append(ModelSpecificRegister(index: index, value: newValue)) }
    }
  }
}

/// The integer registers (AMD64 APM vol. 1, 3.1).
public struct GeneralRegisters: Codable, Sendable, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rax: UInt64 = 0, rbx: UInt64 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0x600
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var rsi: UInt64 = 0, rdi: UInt64 = 0, rsp: UInt64 = 0, rbp: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r8: UInt64 = 0, r9: UInt64 = 0, r10: UInt64 = 0, r11: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0
  /// Offset in the code segment of the next instruction.
  public var rip: UInt64 = 0xfff0
  /// Bit 1 is always set.
  public var rflags: UInt64 = 2

  /// The values after RESET.
  public init() {}
}

/// One segment register with its hidden part (AMD64 APM vol. 2, 4.5 and 4.7).
public struct Segment: Codable, Sendable, Equatable {
  /// What the guest sees.
  public var selector: UInt16
  /// Linear address of its first byte.
  public var base: UInt64
  /// Last valid offset, in bytes (granularity applied).
  public var limit: UInt32
  /// Bits 8–15 of the descriptor's second doubleword and its bits 20–23: type, S, DPL, P, then AVL, L, D/B, G in bits
  /// 12–15, as VMX and SVM keep it (G is redundant: `limit` is in bytes).
  public var attributes: UInt16
  /// A null selector was loaded: using the segment faults outside 64-bit mode.
  public var isUnusable: Bool

  /// - Parameters:
  ///   - attributes: type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15.
  public init(selector: UInt16, base: UInt64, limit: UInt32, attributes: UInt16, isUnusable: Bool = false) {
    self.selector = selector
    self.base = base
    self.limit = limit
    self.attributes = attributes
    self.isUnusable = isUnusable
  }

  /// Real mode: base is sixteen times the selector, 64 KiB.
  public static func real(_ selector: UInt16, code: Bool = false) -> Segment {
    Segment(selector: selector, base: UInt64(selector) << 4, limit: 0xffff, attributes: code ? 0x9b : 0x93)
  }

  /// Flat 4 GiB, 32-bit, ring 0 code.
  public static func flatCode32(selector: UInt16) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: 0xc09b)
  }

  /// Flat 64-bit ring 0 code.
  public static func flatCode64(selector: UInt16) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: 0xa09b)
  }

  /// Flat 4 GiB, 32-bit, ring 0 data.
  public static func flatData(selector: UInt16) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: 0xc093)
  }

  /// No LDT, as after RESET.
  public static let resetLocalDescriptorTable = Segment(selector: 0, base: 0, limit: 0xffff, attributes: 0x82)
  /// The TSS after RESET: present and busy, 64 KiB at 0.
  public static let resetTask = Segment(selector: 0, base: 0, limit: 0xffff, attributes: 0x8b)
}

/// The six segment registers.
public struct SegmentRegisters: Codable, Sendable, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var es: Segment, cs: Segment, ss: Segment, ds: Segment, fs: Segment, gs: Segment

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(es: Segment, cs: Segment, ss: Segment, ds: Segment, fs: Segment, gs: Segment) {
    (self.es, self.cs, self.ss, self.ds, self.fs, self.gs) = (es, cs, ss, ds, fs, gs)
  }
}

/// GDTR or IDTR.
public struct DescriptorTable: Codable, Sendable, Equatable {
  /// Linear address of the table.
  public var base: UInt64
  /// Its last valid offset in bytes.
  public var limit: UInt16

  /// - Parameter limit: size in bytes less one.
  public init(base: UInt64 = 0, limit: UInt16 = 0xffff) {
    self.base = base
    self.limit = limit
  }
}

/// Segments, tables and control registers (AMD64 APM vol. 2, chapters 3 and 4).
public struct SystemRegisters: Codable, Sendable, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var cs = Segment(selector: 0xf000, base: 0xffff_0000, limit: 0xffff, attributes: 0x9b)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var ds = Segment.real(0), es = Segment.real(0), fs = Segment.real(0), gs = Segment.real(0),
    ss = Segment.real(0)
  /// LDTR.
  public var ldt = Segment.resetLocalDescriptorTable
  /// TR.
  public var task = Segment.resetTask
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var gdt = DescriptorTable(), idt = DescriptorTable()
  /// Caching off, extension type: the value after RESET.
  public var cr0: UInt64 = 0x6000_0010
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var cr2: UInt64 = 0, cr3: UInt64 = 0, cr4: UInt64 = 0, cr8: UInt64 = 0
  /// MSR 0xc000_0080: SCE bit 0, LME 8, LMA 10, NXE 11.
  public var efer: UInt64 = 0
  /// MSR 0x1b: base, enable (bit 11), x2APIC (10), bootstrap processor (8).
  public var apicBase: UInt64 = 0xfee0_0900
  /// The four top entries that PAE paging keeps in the processor from the load of CR3 on (AMD64 APM vol. 2, 5.2.3); empty
  /// where they are to be taken from memory.
  public var pointerTable: [UInt64] = []

  /// The values after RESET.
  public init() {}

  /// Those of them that are segment registers.
  public var segments: SegmentRegisters {
    get { SegmentRegisters(es: es, cs: cs, ss: ss, ds: ds, fs: fs, gs: gs) }
    set { (es, cs, ss, ds, fs, gs) = (newValue.es, newValue.cs, newValue.ss, newValue.ds, newValue.fs, newValue.gs) }
  }
}

/// DR0–DR7 (AMD64 APM vol. 2, 13.1.1).
public struct DebugRegisters: Codable, Sendable, Equatable {
  /// DR0–DR3: linear addresses.
  public var addresses: [UInt64] = [0, 0, 0, 0]
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var dr6: UInt64 = 0xffff_0ff0, dr7: UInt64 = 0x400

  /// The values after RESET.
  public init() {}
}

/// x87, SSE, AVX… in the standard XSAVE format (AMD64 APM vol. 2, 11.5.2; Intel SDM vol. 1, 13.4).
public struct ExtendedState: Codable, Sendable, Equatable {
  /// Which components the guest has enabled: bit 0 x87, 1 SSE, 2 AVX, 9 PKRU.
  public var xcr0: UInt64 = 1
  /// The XSAVE area: legacy region, header, components at their CPUID 0xd offsets. Empty means the reset state.
  public var area: [UInt8] = []

  /// The reset state.
  public init() {}
}

/// An MSR's number and value.
public struct ModelSpecificRegister: Codable, Sendable, Equatable {
  /// What RDMSR takes in ECX.
  public var index: UInt32
  /// EDX:EAX.
  public var value: UInt64

  /// Any number, any value; a technique refuses what it does not have.
  public init(index: UInt32, value: UInt64) {
    self.index = index
    self.value = value
  }
}

/// Events between their cause and their delivery.
public struct PendingEvents: Codable, Sendable, Equatable {
  /// An exception that was raised and not yet delivered.
  public struct Exception: Codable, Sendable, Equatable {
    /// 0–31.
    public var vector: UInt8
    /// For the vectors that push one.
    public var errorCode: UInt32?
    /// CR2's value for a page fault, DR6's bits for a debug exception.
    public var payload: UInt64?

    /// - Parameter vector: 0–31.
    public init(vector: UInt8, errorCode: UInt32? = nil, payload: UInt64? = nil) {
      self.vector = vector
      self.errorCode = errorCode
      self.payload = payload
    }
  }

  /// At most one: a second one while it is pending makes a double fault.
  public var exception: Exception?
  /// An external interrupt taken from the controller, or a software one (`int n`), in the middle of delivery.
  public var interrupt: UInt8?
  /// `interrupt` came from an instruction.
  public var interruptIsSoftware = false
  /// An NMI waits.
  public var nonMaskablePending = false
  /// An NMI handler runs: no second one until IRET.
  public var nonMaskableBlocked = false
  /// The instruction before was STI.
  public var stiShadow = false
  /// The instruction before was MOV SS or POP SS.
  public var movSSShadow = false
  /// Data breakpoints that it has hit, as in DR6: the #DB comes behind the next instruction.
  public var heldBreakpoints: UInt8 = 0

  /// Nothing pending.
  public init() {}
}

/// What a processor does when it is not stopped by us.
public enum Activity: Codable, Sendable, Equatable {
  /// Executes instructions.
  case running
  /// HLT: waits for an interrupt.
  case halted
  /// Before the first INIT: an application processor that nobody started.
  case uninitialized
  /// After INIT: waits for a start-up IPI.
  case waitingForStartup
  /// A start-up IPI came: begins at this vector's page when it next runs.
  case startupReceived(vector: UInt8)
}
