// What a technique may lack on a host, and which cases need it.
//
// A case that needs an ability which is missing is skipped with the ability as the reason, a word that a script can
// read; or it runs and its failure is told as a known defect of that name, where that does no harm to the host. An ability is added when the *host* is known not to do what the manual says, never to excuse a technique of ours;
// each says which manual and which host. `HostKind` says what is missing where. How many cases are skipped on each kind of
// host is written down there and checked.

/// Something that a case needs and that not every host gives to every technique.
public enum Ability: String, Sendable, CaseIterable, Comparable {
  // At CPL 0. Missing where KVM emulates kernel code (KVM-PVM): its emulator refuses what Linux' own kernel doesn't use.

  /// Every integer and system instruction: INT n, LAR, BOUND, CMPXCHG16B, far returns to CPL 3, IRETD in protected mode…
  case kernelInstructions
  /// x87, SSE and AVX instructions.
  case kernelVectorInstructions
  /// Interrupts, NMIs and the single-step trap come at the first boundary that allows them (AMD64 APM vol. 2, 8.5).
  case kernelInterruptBoundaries
  /// XSETBV. Also missing with QEMU 7.2's TCG, which does not intercept it: a guest would change its host's XCR0.
  case xsetbvAtKernel

  // At CPL 3. Missing where user code runs in the host's own user mode (KVM-PVM).

  /// RFLAGS.IOPL lets IN and OUT through (AMD64 APM vol. 1, chapter 3.8).
  case ioPrivilegeLevel
  /// INT n through the guest's gates (8.9).
  case userSoftwareInterrupts
  /// Far calls through the guest's call gates (4.11.2).
  case userCallGates
  /// Selectors, RFLAGS.IF and the guest's own descriptors as the guest set them.
  case userSegments
  /// CPUID answers what was configured, at both levels.
  case exactCPUID
  /// CR0.TS, MP and EM, CR4.OSFXSR, OSXMMEXCPT and OSXSAVE decide what runs (11.3).
  case floatingPointControl
  /// XGETBV gives the guest's XCR0 (11.5.2). Some KVM-PVMs leave the host's own in place.
  case userExtendedControl
  /// CR4.FSGSBASE decides whether RDFSBASE runs.
  case segmentBaseControl
  /// Compatibility and 64-bit code enter the kernel by SYSCALL as LSTAR, STAR and SFMASK say (6.1.1).
  case systemCalls

  // Of the machine. Missing with KVM-PVM.

  /// CR4.TSD, RDTSCP and writes to the counter.
  case timeStampControl
  /// A write of a memory type that does not exist to the PAT is #GP (7.8.1).
  case pageAttributeChecks
  /// Pages of 1 GiB.
  case gibibytePages
  /// Paging outside long mode.
  case legacyPaging
  /// CR4.SMAP with RFLAGS.AC (5.6.6).
  case supervisorAccessPrevention
  /// The interrupt table's limit counts in real mode (4.6.5).
  case realModeTableLimit

  // Missing with both.

  /// Watchpoints on memory and ports (13.1.1). QEMU's TCG loses track of them at an exit, and may crash.
  case dataBreakpoints
  /// Debug registers that were set from outside stop user code; the same.
  case userBreakpoints
  /// INT1 (opcode 0xf1) is a trap (AMD64 APM vol. 3, "INT1").
  case debugInstruction
  /// The error code of an event that can't be delivered names the vector, IDT and EXT bits (8.4.1).
  case gateErrorCodes
  /// Reserved bits of MXCSR are #GP (AMD64 APM vol. 3, "LDMXCSR").
  case controlAndStatusChecks
  /// The upper half of CR0 is #GP (3.1.1).
  case controlRegisterUpperHalf

  // Of the processor. Missing with QEMU 7.2's TCG; some of them under rewriting, too, if TCG simulates its host.

  /// Instruction breakpoints: see `dataBreakpoints`.
  case instructionBreakpoints
  /// Single steps behind MOV SS, SYSCALL, SYSRET, IRET and what a monitor carries out (13.1.4). Also missing with KVM-PVM.
  case singleSteps
  /// STI's shadow holds back no single step, and the frame of a fault has RF (13.1.4, 13.1.5).
  case exactSteps
  /// LDMXCSR takes the bits that MXCSR_MASK has, and the others are #GP. With KVM-PVM on Intel's processors they are #UD.
  case controlAndStatusMask
  /// F2 and F3 before LOOP count, as they do on AMD's processors. KVM-PVM gives the host's processor to user code.
  case loopPrefixes
  /// SYSENTER is #UD in long mode, as on AMD's processors (AMD64 APM vol. 3, "SYSENTER"). Intel's have it there: it is #GP where nothing
  /// is registered for it (Intel SDM vol. 2, "SYSENTER").
  case undefinedSystemEntry
  /// DebugCtl: the recording of branches, and steps from branch to branch (13.1.1.5). Also missing with KVM-PVM.
  case branchRecording
  /// DR7.GD guards the debug registers (13.1.1.4).
  case debugRegisterGuard
  /// A store into the next instruction changes it, the first time too (7.6.1).
  case immediateCodeChanges
  /// Two contributory exceptions make a double fault (8.2.9).
  case doubleFaults
  /// A non-canonical address of the stack segment is #SS (8.2.13).
  case stackFaults
  /// A branch to a non-canonical address faults at the branch (AMD64 APM vol. 3, "JMP (Near)").
  case branchTargetChecks
  /// A read-modify-write that may not write faults as a write (8.4.2).
  case modifyFaults
  /// A reserved bit in a present entry faults with the P bit set (8.4.2).
  case reservedFaults
  /// Non-canonical addresses are #GP by WRFSBASE.
  case canonicalRegisterChecks
  /// Non-canonical addresses are #GP in the MSRs (AMD64 APM vol. 2, appendix A). Also missing with some KVM-PVMs, on Intel's
  /// processors.
  case canonicalModelSpecificRegisters
  /// SYSCALL keeps the status flags (6.1.1).
  case systemCallFlags
  /// An IRET to a stack segment that is not present is #SS, not #NP (AMD64 APM vol. 3, "IRET").
  case returnStackFaults
  /// The x87 pointers are stored as AMD's processors do: by FNSTENV always and with selectors, by FXSAVE only while an exception is
  /// pending (11.4.4). KVM gives the processor's own way to guests, and Intel's is another.
  case floatingPointers
  /// #MF comes at any x87 instruction that waits (8.2.17). With QEMU's TCG, at FWAIT only.
  case floatingExceptions
  /// CR8 has four bits.
  case taskPriorityChecks
  /// Unmasked SSE exceptions are raised (8.2.19).
  case vectorExceptions
  /// #AC (8.2.17).
  case alignmentChecks
  /// Limit and type of a segment are checked at each access (4.12).
  case segmentChecks
  /// Entering long mode without PAE is #GP (14.6.1). The simulated machine hangs.
  case longModeChecks
  /// The local APIC's registers are MSRs too (16.12), and its timer has deadlines (16.4.1).
  case extendedLocalAPIC
  /// The local APIC's registers hide RAM at the same place (16.3.1). Missing with every KVM, which looks for RAM first.
  case localAPICOnMemory
  /// A machine has more than one processor.
  case severalProcessors
  /// RDPMC reads the four counters that AMD's processors have (13.2.1). Missing where KVM gives a guest none.
  case performanceCounters
  /// SYSCFG and other registers of the family (appendix A). KVM has them all since Linux 5.13.
  case familyRegisters
  /// With CR0.NE = 0 an x87 error is interrupt line 13 (3.1.1). No KVM has that.
  case floatingInterrupts
  /// Hardware's task switches (12.3).
  case taskSwitches
  /// Virtual-8086 mode, with its extensions where they are asked for (8.10).
  case virtual8086
  /// MOV SS does not hold back a breakpoint on the next instruction. Intel's processors do.
  case stackSegmentBreakpoints
  /// VMMCALL and VMCALL at CPL 0 are KVM's hypercalls. KVM-PVM, which emulates them, runs them for ever.
  case kernelHypercalls
  /// VMCALL at CPL 3 is #GP: KVM emulates it on AMD's processors, for CPL 0 only. On Intel's it is the processor's own way to the
  /// hypervisor, which answers -EPERM.
  case hypercallPrivilege

  /// A return to CPL 3 makes null selectors 0 (AMD64 APM vol. 2, 4.8.3; Intel SDM vol. 2, "IRET"). QEMU's TCG leaves FS and GS alone.
  case nullSelectorReturns
  /// IRET at CPL 0 sets VIF and VIP (AMD64 APM vol. 3, "IRET"). QEMU's TCG leaves them alone.
  case virtualInterruptReturns
  /// Bit 63 of CR3 is #GP while CR4.PCIDE is 0 (5.5.1). QEMU's TCG keeps it, and no guest with such a CR3 can be entered.
  case contextChecks
  /// Exceptions find their stack by a task that a hypervisor has loaded, which is busy. QEMU's TCG ends itself.
  case busyTasks
  /// Protection keys of user pages. Missing where KVM's host has none, or its hypervisor hides them.
  case protectionKeys

  /// By declaration.
  public static func < (lhs: Self, rhs: Self) -> Bool {
    (allCases.firstIndex(of: lhs) ?? 0) < (allCases.firstIndex(of: rhs) ?? 0)
  }
}
