import TrivisorConformanceGuests
import TrivisorVMM

/// Which kind of host a technique runs on, as far as it decides about abilities.
public enum HostKind: String, Sendable, CaseIterable {
  /// Guest code runs in software of ours on a processor: nothing is missing.
  case complete
  /// A KVM on a processor with its own virtualization extension.
  case kvm
  /// Guest code is user code of a process: the host's own processor runs it.
  case native
  /// Software of ours on a processor that is itself simulated by QEMU's TCG (tools/host-lab).
  case simulatedHost = "simulated-host"
  /// A KVM that emulates guest kernel code instruction by instruction (KVM-PVM).
  case emulatingKVM = "emulating-kvm"
  /// A KVM on a processor that is itself simulated by QEMU's TCG.
  case simulatedProcessor = "simulated-processor"

  /// What kind of host this is for a technique; measures, so it takes milliseconds.
  /// - Parameter isTranslated: whether 64-bit domains are translated.
  public init(for technique: any Technique, isTranslated: Bool = false) {
    // Its own signature before everything else: a simulated processor can be slow enough to look like an emulating KVM.
    let isSimulated = String(cString: conformance_host_hypervisor()) == "TCGTCGTCGTCG"
    guard technique.name == .hardware else {
      self = isSimulated ? .simulatedHost : technique.handoverKind == .xenDomain && !isTranslated ? .native : .complete
      return
    }
    if isSimulated {
      self = .simulatedProcessor
    } else {
      self = technique.caution() == nil ? .kvm : .emulatingKVM
    }
  }

  /// What processors of a vendor's do otherwise than AMD's where guest code meets them, and KVM on them does.
  private func peculiarities(of vendor: HostProcessor.Vendor) -> Set<Ability> {
    guard vendor != .amd else { return [] }
    return switch self {
    case .complete, .simulatedHost, .simulatedProcessor: []
    case .native: [.floatingPointers, .loopPrefixes, .undefinedSystemEntry]
    case .kvm: [.undefinedSystemEntry, .hypercallPrivilege]
    case .emulatingKVM: [.hypercallPrivilege, .controlAndStatusMask]
    }
  }

  /// What is missing on such a host with a processor of that vendor's.
  public func lacking(on vendor: HostProcessor.Vendor = HostProcessor.current.vendor) -> Set<Ability> {
    lackingOnAny.union(peculiarities(of: vendor))
  }

  private var lackingOnAny: Set<Ability> {
    switch self {
    case .complete, .native: []
    // What Intel's processors do otherwise than AMD's, and KVM itself.
    case .kvm:
      [
        .floatingPointers, .loopPrefixes, .localAPICOnMemory, .stackSegmentBreakpoints, .floatingInterrupts,
        .protectionKeys,
      ]
    // What the engine leaves to the host's instructions: #XM and #MF.
    case .simulatedHost: [.vectorExceptions, .floatingExceptions]
    case .emulatingKVM:
      [
        .kernelInstructions, .kernelVectorInstructions, .kernelInterruptBoundaries, .xsetbvAtKernel,
        .ioPrivilegeLevel, .userSoftwareInterrupts, .userCallGates, .userSegments, .exactCPUID,
        .floatingPointControl, .userExtendedControl, .segmentBaseControl, .userBreakpoints, .systemCalls,
        .timeStampControl,
        .pageAttributeChecks, .gibibytePages, .legacyPaging, .supervisorAccessPrevention, .dataBreakpoints,
        .realModeTableLimit, .singleSteps, .branchRecording, .loopPrefixes,
        .debugInstruction, .gateErrorCodes, .controlAndStatusChecks, .controlRegisterUpperHalf,
        .canonicalModelSpecificRegisters, .performanceCounters, .familyRegisters, .kernelHypercalls,
        .floatingPointers, .localAPICOnMemory, .taskSwitches, .virtual8086, .stackSegmentBreakpoints,
        .floatingInterrupts, .protectionKeys,
      ]
    case .simulatedProcessor:
      [
        .xsetbvAtKernel, .dataBreakpoints, .userBreakpoints, .instructionBreakpoints, .debugRegisterGuard,
        .immediateCodeChanges, .doubleFaults, .singleSteps, .exactSteps, .branchRecording, .loopPrefixes,
        .debugInstruction, .gateErrorCodes, .controlAndStatusChecks, .controlRegisterUpperHalf,
        .stackFaults, .branchTargetChecks, .modifyFaults, .reservedFaults, .canonicalRegisterChecks,
        .canonicalModelSpecificRegisters,
        .systemCallFlags, .returnStackFaults, .taskPriorityChecks, .vectorExceptions, .alignmentChecks, .segmentChecks,
        .longModeChecks, .performanceCounters, .localAPICOnMemory, .floatingPointers,
        .floatingExceptions, .controlAndStatusMask, .stackSegmentBreakpoints, .virtual8086, .taskSwitches,
        .floatingInterrupts, .protectionKeys, .nullSelectorReturns, .virtualInterruptReturns, .contextChecks,
        .busyTasks,
      ]
    }
  }

  /// What of it only makes a case end otherwise than the manual says: such cases run all the same, so that a host that
  /// does better is noticed. The rest would end or hang more than the guest: on an emulating KVM, the host's own kernel is
  /// in the way of almost all; a simulated processor crashes, hangs, or changes its host's registers (`tools/check-conformance` gives such
  /// a case a host of its own).
  public func defects(on vendor: HostProcessor.Vendor = HostProcessor.current.vendor) -> Set<Ability> {
    defectsOnAny.union(peculiarities(of: vendor))
  }

  private var defectsOnAny: Set<Ability> {
    switch self {
    case .complete, .native: []
    case .simulatedHost: lackingOnAny
    // The vendor's, of some processors: the cases find out.
    case .kvm: lackingOnAny
    // Of some hosts of the kind: the cases find out.
    case .emulatingKVM: [.userExtendedControl, .canonicalModelSpecificRegisters, .floatingPointers, .localAPICOnMemory]
    case .simulatedProcessor:
      lackingOnAny.subtracting([
        .xsetbvAtKernel, .dataBreakpoints, .userBreakpoints, .instructionBreakpoints, .debugRegisterGuard,
        .longModeChecks, .busyTasks,
      ])
    }
  }

  /// How many cases are skipped here: written down, so that a skip more or less does not go unnoticed.
  public var expectedSkips: Int {
    switch self {
    case .complete, .native, .simulatedHost, .kvm: 0
    case .emulatingKVM: 247
    case .simulatedProcessor: 30
    }
  }

  /// How many cases end otherwise than the manual says here, in the same way; `nil` where hosts of the kind differ.
  public func expectedDefects(on vendor: HostProcessor.Vendor = HostProcessor.current.vendor) -> Int? {
    switch self {
    case .complete: 0
    // One for each of its vendor's peculiarities.
    case .native: vendor == .amd ? 0 : 3
    case .simulatedHost, .kvm, .emulatingKVM, .simulatedProcessor: nil
    }
  }
}
