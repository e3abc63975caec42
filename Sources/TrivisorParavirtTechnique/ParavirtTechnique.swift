// The paravirtual technique: a guest kernel built for Xen's PV interface, run natively in a sandboxed process.
//
// No privileged instruction has to be found or emulated, because the guest has none: it asks, by hypercalls. It runs in
// ring 3 as an ordinary process does, with nothing but its own memory, and whatever it asks arrives here as a trap:
//
//     TrivisorBoot.XenDomainLoader ── memory, XenDomainStart ──▶ ParavirtProcessor ─▶ XenDomain (run loop, hypercalls, page tables)
//                                                                                └─ DomainExecutor
//                                                                                     NativeExecutor ─▶ Sandbox
//                                                                                     TranslatedExecutor ─▶ Translation
//
// Kernels that are linked for the upper half of the address space, such as Linux', can't run natively: no process has those
// addresses. Their code is translated, and so is their users'; everything else of the domain is the same.
//
// `XenDomain` knows nothing of how guest code is executed: it sees registers and memory, and says which translations are
// gone.

import Glibc
import TrivisorSandbox
import TrivisorVMM

/// Runs Xen PV domains without help of the processor or of KVM.
public struct ParavirtTechnique: Technique {
  /// Whether 64-bit guests are translated that could run natively.
  private let translatesAll: Bool

  /// The technique has no state of its own.
  public init() { translatesAll = false }

  /// - Parameter translatesAll: whether 64-bit guests are translated that could run natively, too.
  package init(translatesAll: Bool) { self.translatesAll = translatesAll }

  /// Always `paravirtual`.
  public var name: TechniqueName { .paravirtual }

  /// Domains, and nothing else.
  public var handoverKind: Handover.Kind { .xenDomain }

  /// Whether the host's kernel and this process have what a sandbox needs.
  public func probe() -> Availability {
    guard SandboxProcess.hasBaseInstructions else {
      return .unavailable(
        reason: "user code can't read and write its FS and GS base here",
        remedy: "use Linux 5.9 or later on a processor with FSGSBASE")
    }
    guard SandboxProcess.mayHaveWritableCode else {
      return .unavailable(
        reason:
          "this process may have no memory that is writable and executable (PR_SET_MDWE), as a guest's kernel needs",
        remedy: "start it without that (systemd: MemoryDenyWriteExecute=no), or change \(Setting.technique)")
    }
    guard SandboxProcess.hostTrapsSystemCalls else {
      return .unavailable(
        reason: "this host's kernel has no seccomp filters, or hides them from this process",
        remedy: "use Linux 5.11 or later with seccomp filters (CONFIG_SECCOMP_FILTER)")
    }
    var notes = [
      "runs 64-bit and 32-bit guests built for Xen's PV interface, natively",
      "guest code sees the host's CPUID and selectors; breakpoints and CR0.TS can't be given to it",
    ]
    if !SandboxProcess.hostHasSegments { notes.append(Self.noSegments) }
    if HostProcessor.hasProtectionKeys, !SandboxProcess.hostWritesFramesWithoutKey {
      notes.append(
        "guest code that denies itself protection key 0 loses its registers: its kernel gets a general protection fault"
          + " for its user's (Linux 6.12 or later tells the page fault)")
    }
    if geteuid() != 0 {
      notes.append("64-bit guests linked below 64 KiB, such as GRUB, need root here (vm.mmap_min_addr)")
    }
    return .available(notes: notes)
  }

  private static let noSegments = "this host's kernel has no segments for 32-bit guests (CONFIG_MODIFY_LDT_SYSCALL)"

  /// Makes a sandbox for guests of each width.
  public func rehearse() -> Availability {
    guard case .available(var notes) = probe() else { return probe() }
    do throws(TechniqueFailure) {
      try Self.makeSandbox(is32Bit: false)
    } catch {
      return .unavailable(reason: "\(error.call) failed: \(error.reason)", remedy: error.remedy)
    }
    do throws(TechniqueFailure) {
      try Self.makeSandbox(is32Bit: true)
    } catch {
      if !notes.contains(Self.noSegments) { notes.append(Self.noSegments) }
    }
    return .available(notes: notes)
  }

  private static func makeSandbox(is32Bit: Bool) throws(TechniqueFailure) {
    let memory: GuestMemory
    do throws(GuestMemoryFailure) {
      memory = try GuestMemory(size: GuestMemory.pageSize)
    } catch {
      throw TechniqueFailure(call: "guest memory", reason: error.description)
    }
    try GuestAddressSpace(memory: memory, threadCount: 1, is32Bit: is32Bit).destroy()
  }

  /// Nothing to say: guest kernel code runs natively.
  public func caution() -> String? { nil }

  /// What native execution can't honour: another processor than the host's. Nor more processors than shared_info has room for.
  public func findings(for configuration: MachineConfiguration) -> [Finding] {
    var findings: [Finding] = []
    if configuration.interruptChips != .automatic {
      findings.append(
        Finding(.interruptChips, "a paravirtual domain has event channels and no such chips: leave that out"))
    }
    if configuration.processorCount > 32 {
      findings.append(Finding(.processors, "a paravirtual domain has at most 32 processors: ask for fewer"))
    }
    if configuration.processorModel.isRequired, !configuration.processorModel.isHost {
      findings.append(
        Finding(
          .processorModel,
          """
          natively running code sees the host's processor and no model: ask for host, or leave \
          \(Setting.processorModel) out
          """))
    }
    return findings
  }

  /// Nothing is hidden from native code, so nothing can be missing.
  public func reductions(for configuration: MachineConfiguration) -> [ProcessorFeature] { [] }

  /// The domain.
  public var savedPartition: (any SavedState.Type)? { ParavirtPartition.Saved.self }

  /// - Throws: `TechniqueFailure` naming the host call.
  public func makePartition(
    _ configuration: MachineConfiguration, memory: GuestMemory, bus: Bus
  ) throws(TechniqueFailure) -> any Partition {
    ParavirtPartition(
      memory: memory, processorCount: configuration.processorCount, model: configuration.processorModel,
      translatesAll: translatesAll)
  }
}
