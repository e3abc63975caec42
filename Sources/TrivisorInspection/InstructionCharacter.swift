// What a deprivileged kernel's instruction does, and what each technique makes of it.
//
// Popek and Goldberg (1974) call an instruction *sensitive* if it reads or changes what belongs to the machine, and
// *privileged* if it traps in user mode. A machine whose sensitive instructions are all privileged can be virtualized by
// running the guest deprivileged and handling the traps. x86's are not: POPF in user mode just leaves the interrupt flag as
// it is, SGDT shows the host's table. Those that fail silently are why there are three techniques:
//
//     hardware      adds a mode in which the guest's kernel is privileged, and traps what the monitor wants to see
//     rewriting     finds them in the instruction stream and puts something else in their place
//     paravirtual   has them replaced by the guest's author; what was overlooked shows the host, or does nothing
//
// The table names what x86-64 has; `Classification` in InstructionSet decides which instructions are looked up here.

import TrivisorInstructionSet

/// What happens if a kernel that was moved to user mode executes an instruction.
public enum InstructionCharacter: String, Sendable, CaseIterable, Encodable {
  /// It raises #GP, or #UD: the monitor can emulate it.
  case privileged
  /// It raises #GP unless the I/O privilege level or bitmap says otherwise.
  case inputOutput
  /// It does nothing, something else, or shows the host's state, and nobody notices.
  case silent
  /// It transfers control to whoever owns the descriptor tables or MSRs: a monitor must direct it to the guest.
  case transfer
  /// It works in user mode, but its result belongs to the processor or the machine: identity, time, random numbers.
  case identity
  /// It saves or restores the processor's extended state.
  case state

  /// In words.
  public var title: String {
    switch self {
    case .privileged: "privileged: trap in user mode"
    case .inputOutput: "input and output, interrupt flag: trap unless IOPL allows them"
    case .silent: "sensitive and silent: no trap in user mode, and a wrong result"
    case .transfer: "transfers through the system's tables"
    case .identity: "the processor's identity, its clock, its random numbers"
    case .state: "extended state"
    }
  }
}

/// What a technique does with an instruction.
public struct Treatment: Sendable, Equatable, Encodable {
  /// Under KVM.
  public let hardware: String
  /// By translation.
  public let rewriting: String
  /// Deprivileged, natively.
  public let paravirtual: String
}

extension InstructionCharacter {
  /// The character of an instruction that an engine may not let run as it is.
  static func of(_ instruction: Instruction) -> InstructionCharacter {
    switch instruction.classification {
    case .softwareInterrupt, .systemCall: return .transfer
    case .farCall, .farJump, .farReturn, .interruptReturn: return .silent
    case .privileged:
      switch instruction.operation {
      case .in, .out, .ins, .outs, .cli, .sti: return .inputOutput
      default: return .privileged
      }
    default: break
    }
    switch instruction.operation {
    case .cpuid, .rdtsc, .rdtscp, .rdpmc, .rdpid, .rdrand, .rdseed, .xgetbv, .monitorx, .mwaitx, .clzero:
      return .identity
    case .fxsave, .fxrstor, .xsave, .xsavec, .xsaveopt, .xsaves, .xrstor, .xrstors, .fnsave, .fnstenv, .fnstcw,
      .fnstsw, .fnclex, .fninit, .fnop, .rdpkru, .wrpkru:
      return .state
    case .vmmcall, .vmfunc: return .privileged
    default: return .silent
    }
  }

  /// What each technique does with an instruction of this character.
  func treatment(of instruction: Instruction) -> Treatment {
    Treatment(hardware: hardware(instruction), rewriting: rewriting(instruction), paravirtual: paravirtual(instruction))
  }

  private static let notAnnounced = "#UD: not announced"

  private func hardware(_ instruction: Instruction) -> String {
    switch instruction.operation {
    case .in, .out, .ins, .outs, .hlt, .cpuid, .wbinvd, .invd, .xsetbv, .monitor, .mwait, .rdpmc, .lmsw: return "exit"
    case .movToControl where [0, 4, 8].contains(instruction.reg | (instruction.rex & 4) << 1): return "exit"
    case .movFromControl where instruction.reg | (instruction.rex & 4) << 1 == 8: return "exit"
    case .rdmsr, .wrmsr: return "exit, but for the system call's and the segments' MSRs"
    case .movToDebug, .movFromDebug: return "exit at first, then runs"
    case .vmcall, .vmmcall: return "exit"
    case .vmrun, .vmload, .vmsave, .vmlaunch, .vmresume, .vmxon, .vmxoff, .vmread, .vmwrite, .vmclear, .vmptrld,
      .vmptrst, .stgi, .clgi, .skinit, .invept, .invvpid, .invlpga, .vmfunc:
      return Self.notAnnounced
    default: return "runs"
    }
  }

  private func rewriting(_ instruction: Instruction) -> String {
    switch self {
    case .state: return "emulated: only the guest's part of the state"
    case .identity:
      return instruction.operation == .rdrand || instruction.operation == .rdseed ? "emulated or kept" : "emulated"
    case .transfer: return "emulated: to the guest's own handler"
    default: return hardware(instruction) == Self.notAnnounced ? Self.notAnnounced : "emulated"
    }
  }

  private func paravirtual(_ instruction: Instruction) -> String {
    switch self {
    case .privileged, .inputOutput: return "traps, unless a hypercall took its place"
    case .transfer:
      return instruction.operation == .syscall
        ? "traps: from the kernel a hypercall" : "traps: to the guest's own handler"
    case .silent:
      switch instruction.operation {
      case .pushf: return "shows the host's interrupt flag"
      case .popf, .iret: return "leaves the interrupt flag alone"
      case .sgdt, .sidt, .sldt, .str, .smsw: return "shows the host's, or traps (UMIP)"
      case .lar, .lsl, .verr, .verw: return "looks into the host's tables"
      case .rdfsbase, .rdgsbase, .wrfsbase, .wrgsbase: return "runs, if the host allows it"
      default: return "uses the host's tables, at the wrong privilege level"
      }
    case .identity: return "shows the host's"
    case .state: return "runs"
    }
  }
}
