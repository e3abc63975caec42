// Which cases need more than every host gives: the other half of `Ability`.

extension Ability {
  /// What a case needs; empty for most.
  static func needed(by name: String) -> Set<Ability> { needs[name] ?? [] }

  /// The names of all cases in the table, for its test.
  public static var casesWithNeeds: Set<String> { Set(needs.keys) }

  private static let needs: [String: Set<Ability>] = {
    var needs: [String: Set<Ability>] = [:]
    for (ability, names) in table {
      for name in names.split(whereSeparator: \.isWhitespace) { needs[String(name), default: []].insert(ability) }
    }
    return needs
  }()

  private static let table: [(Ability, String)] = [
    (
      .kernelInstructions,
      """
      exception-breakpoint exception-overflow exception-debug-instruction exception-gate-not-present
      exception-gate-beyond descriptor-questions privilege-far-return real-bound protected-traps protected-bound
      protected-adjust-privilege protected-instructions protected-task-refused protected-privilege
      protected-call-gate memory-exchange16 memory-stack memory-swapped memory-newer repeated-interrupt-return
      every-exception-protected every-exception-compatibility every-exception-task-switched step-interrupts
      step-interrupts-compatibility step-overflow-compatibility step-return-compatibility step-stack-segment-interrupt
      step-stack-segment-interrupt-compatibility step-resume-interrupt
      """
    ),
    (
      .kernelVectorInstructions,
      """
      floating-initial floating-arithmetic floating-control floating-control-refused floating-exits vector-exits
      vector-upper xsave-restore xsave-parts xsave-refused xgetbv xsave-disabled fxsave-restore exception-floating
      exception-vector-floating exception-device-not-available exception-emulation exception-sse-disabled
      exception-wait exception-wait-without-mp exception-vector-unmasked-unannounced state-vector code-sizes-vector
      floating-pointers floating-pointers-pending floating-pointers-clear floating-pointers-load
      floating-pointers-selectors floating-pointers-compatibility floating-pointers-compatibility-protected
      floating-pointers-real
      """
    ),
    (
      .kernelInterruptBoundaries,
      """
      interrupt-window interrupt-sti-cli interrupt-mov-ss interrupt-popf interrupt-iret interrupt-priority
      interrupt-task-priority interrupt-nmi-masked interrupt-line-level interrupt-self
      """
    ),
    (
      .xsetbvAtKernel,
      """
      xsetbv
      """
    ),
    (
      .ioPrivilegeLevel,
      """
      port-immediate-user port-register-user port-string-user debug-port-user step-interrupt-flag-by-level-user
      step-interrupt-flag-by-level-compatibility-user
      """
    ),
    (
      .userSoftwareInterrupts,
      """
      exception-gate-not-present-user exception-gate-beyond-user exception-gate-privilege-user privilege-gate
      every-exception-compatibility-user step-interrupts-user step-interrupts-compatibility-user
      step-overflow-compatibility-user step-stack-segment-interrupt-compatibility-user
      """
    ),
    (
      .userCallGates,
      """
      privilege-call-gate protected-call-gate
      """
    ),
    (
      .userSegments,
      """
      descriptor-questions-user flags-by-privilege privilege-iret privilege-null-selectors
      repeated-flags-user floating-pointers-selectors-user floating-pointers-compatibility-user
      """
    ),
    (
      .exactCPUID,
      """
      cpuid-vendor-user cpuid-features cpuid-features-user cpuid-brand-user
      """
    ),
    (
      .floatingPointControl,
      """
      xsave-disabled-user exception-device-not-available-user exception-emulation-user exception-sse-disabled-user
      exception-wait-user exception-vector-unmasked-unannounced-user
      every-exception-task-switched-user
      """
    ),
    (
      .userExtendedControl,
      """
      xgetbv-user
      """
    ),
    (
      .segmentBaseControl,
      """
      modes-segment-bases-refused modes-segment-bases-refused-user repeated-bases
      """
    ),
    (
      .userBreakpoints,
      """
      debug-user debug-user-instruction debug-port-user debug-guard-user step-watch-user step-watch-compatibility-user
      step-watch-repeated-user
      """
    ),
    (
      .systemCalls,
      """
      privilege-syscall privilege-syscall-flags privilege-syscall-disabled repeated-system-call
      repeated-system-call-selectors repeated-return-refused
      """
    ),
    (
      .timeStampControl,
      """
      msr-time-stamp time-stamp-write time-stamp-disabled promises-adjust
      """
    ),
    (
      .pageAttributeChecks,
      """
      msr-pat-reserved
      """
    ),
    (
      .gibibytePages,
      """
      paging-1-gibibyte paging-1-gibibyte-user paging-drops-1-gibibyte paging-drops-1-gibibyte-global
      """
    ),
    (
      .legacyPaging,
      """
      paging-legacy paging-pae paging-drops-pae paging-drops-pae-global paging-drops-4-mebibytes
      paging-drops-4-mebibytes-global
      """
    ),
    (
      .supervisorAccessPrevention,
      """
      paging-smap paging-drops-2-mebibytes-override modes-many repeated-access
      """
    ),
    (
      .dataBreakpoints,
      """
      debug-write debug-read debug-port debug-port-compatibility debug-real step-stack-segment-watch step-port-string
      step-watch step-watch-compatibility step-watch-repeated step-watch-repeated-compatibility
      """
    ),
    (
      .instructionBreakpoints,
      """
      debug-instruction debug-instruction-compatibility debug-resume step-resume-flag step-resume-repeated
      step-breakpoint debug-real
      """
    ),
    (
      .singleSteps,
      """
      step-return step-return-user step-return-compatibility-user step-stack-segment step-stack-segment-user
      step-stack-segment-compatibility step-stack-segment-compatibility-user step-pop-stack-compatibility
      step-pop-stack-compatibility-user step-stack-segment-flags step-stack-segment-flags-user step-sensitive
      step-system-call step-system-call-kept step-system-call-compatibility step-system-call-kept-compatibility
      step-halt step-halt-compatibility step-repeated step-repeated-compatibility step-repeated-compatibility-user
      step-return-outwards step-return-stepped step-breakpoint step-interrupt-flag-by-level
      step-interrupt-flag-by-level-user step-interrupt-flag-by-level-compatibility
      step-interrupt-flag-by-level-compatibility-user step-watch step-watch-user step-watch-compatibility
      step-watch-compatibility-user step-watch-repeated-compatibility step-branch-flag step-branch-flag-user
      step-branch-flag-compatibility step-branch-flag-compatibility-user step-real-debug-instruction
      step-real-plain step-real-interrupts step-real-stack-segment step-real-repeated step-real-branches step-real-flags
      step-real-halt step-real-branch-flag
      """
    ),
    (
      .exactSteps,
      """
      step-page-fault step-page-fault-user step-page-fault-compatibility step-page-fault-compatibility-user
      step-interrupt-flag step-interrupt-flag-compatibility
      """
    ),
    (
      .floatingExceptions,
      """
      floating-pointers-pending floating-pointers-pending-user
      """
    ),
    (
      .controlAndStatusMask,
      """
      floating-control-mask-user
      """
    ),
    (
      .branchRecording,
      """
      step-to-branch step-last-branch step-branch-flag step-branch-flag-user step-branch-flag-compatibility
      step-branch-flag-compatibility-user
      """
    ),
    (
      .undefinedSystemEntry,
      """
      privilege-sysenter
      """
    ),
    (
      .loopPrefixes,
      """
      loop-prefixes
      """
    ),
    (
      .doubleFaults,
      """
      exception-double-fault
      """
    ),
    (
      .debugRegisterGuard,
      """
      debug-guard debug-guard-compatibility debug-real-guard
      """
    ),
    (
      .immediateCodeChanges,
      """
      code-next code-next-user code-next-loop code-next-loop-user
      """
    ),
    (
      .realModeTableLimit,
      """
      triple-fault-16
      """
    ),
    (
      .debugInstruction,
      """
      exception-debug-instruction exception-debug-instruction-user step-debug-instruction step-debug-instruction-user
      step-debug-instruction-compatibility step-debug-instruction-compatibility-user
      """
    ),
    (
      .gateErrorCodes,
      """
      exception-gate-not-present exception-gate-not-present-user exception-gate-beyond exception-gate-beyond-user
      exception-gate-privilege-user interrupt-external-bit
      """
    ),
    (
      .controlAndStatusChecks,
      """
      floating-control-refused floating-control-refused-user
      """
    ),
    (
      .controlRegisterUpperHalf,
      """
      control-registers-upper-half
      """
    ),
    (
      .stackFaults,
      """
      exception-noncanonical-stack exception-noncanonical-stack-user exception-noncanonical-push
      """
    ),
    (
      .branchTargetChecks,
      """
      exception-noncanonical-jump exception-noncanonical-jump-user returns-not-canonical returns-not-canonical-user
      exception-noncanonical-direct exception-noncanonical-direct-user
      """
    ),
    (
      .modifyFaults,
      """
      page-fault-modify page-fault-modify-user
      """
    ),
    (
      .reservedFaults,
      """
      page-fault-reserved page-fault-reserved-user page-fault-reserved-write page-fault-reserved-write-user
      page-fault-reserved-nx page-fault-reserved-nx-user paging-controls
      """
    ),
    (
      .canonicalRegisterChecks,
      """
      modes-segment-bases-noncanonical modes-segment-bases-noncanonical-user repeated-bases
      """
    ),
    (
      .canonicalModelSpecificRegisters,
      """
      msr-noncanonical
      """
    ),
    (
      .systemCallFlags,
      """
      privilege-syscall-flags repeated-system-call
      """
    ),
    (
      .returnStackFaults,
      """
      repeated-return-refused
      """
    ),
    (
      .floatingPointers,
      """
      floating-pointers floating-pointers-user floating-pointers-pending floating-pointers-pending-user
      floating-pointers-clear floating-pointers-clear-user floating-pointers-load floating-pointers-load-user
      floating-pointers-selectors floating-pointers-selectors-user floating-pointers-compatibility
      floating-pointers-compatibility-user floating-pointers-compatibility-protected floating-pointers-real
      """
    ),
    (
      .taskPriorityChecks,
      """
      task-priority-refused
      """
    ),
    (
      .vectorExceptions,
      """
      exception-vector-floating exception-vector-floating-user exception-vector-unmasked-unannounced
      exception-vector-unmasked-unannounced-user every-exception-protected every-exception-compatibility
      every-exception-compatibility-user
      """
    ),
    (
      .alignmentChecks,
      """
      exception-alignment
      """
    ),
    (
      .segmentChecks,
      """
      real-limit protected-segments
      """
    ),
    (
      .longModeChecks,
      """
      modes-refused
      """
    ),
    (
      .extendedLocalAPIC,
      """
      apic-registers interrupt-deadline-timer interrupt-self startup-msr
      """
    ),
    (
      .localAPICOnMemory,
      """
      apic-memory
      """
    ),
    (
      .severalProcessors,
      """
      startup-waiting startup-page startup-msr startup-broadcast startup-interrupt startup-locked startup-again
      """
    ),
    (
      .performanceCounters,
      """
      promises-counters-read promises-counters-read-user
      """
    ),
    (
      .familyRegisters,
      """
      promises-family
      """
    ),
    (
      .kernelHypercalls,
      """
      promises-hypercalls promises-hypercalls-32 promises-send-interrupts
      """
    ),
    (
      .hypercallPrivilege,
      """
      promises-hypercalls-user
      """
    ),
    (
      .floatingInterrupts,
      """
      floating-interrupt
      """
    ),
    (
      .taskSwitches,
      """
      task-jump task-call task-gate task-interrupt task-16 task-refused task-data-segment task-data-segment-absent
      task-user task-trap virtual-task
      """
    ),
    (
      .virtual8086,
      """
      virtual-segments virtual-refused virtual-flags-refused virtual-flags virtual-exceptions virtual-ports
      virtual-extensions virtual-redirection virtual-pending virtual-interrupts virtual-task
      """
    ),
    (
      .nullSelectorReturns,
      """
      privilege-null-selectors
      """
    ),
    (
      .virtualInterruptReturns,
      """
      privilege-iret-virtual-interrupt
      """
    ),
    (
      .contextChecks,
      """
      contexts-off
      """
    ),
    (
      .busyTasks,
      """
      virtual-interrupts
      """
    ),
    (
      .protectionKeys,
      """
      keys-switch keys-instructions keys-instructions-user keys-rights keys-rights-user keys-rights-compatibility-user
      keys-write-protect keys-supervisor-page keys-toggled keys-saved keys-fetch keys-fetch-user keys-large
      keys-large-user keys-reasons keys-reasons-user
      """
    ),
    (
      .stackSegmentBreakpoints,
      """
      step-stack-segment-breakpoint
      """
    ),
  ]
}
