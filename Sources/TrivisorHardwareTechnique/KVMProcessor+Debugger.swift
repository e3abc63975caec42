// A debugger from outside, through KVM_SET_GUEST_DEBUG (Documentation/virt/kvm/api.rst).
//
// Breakpoints are INT3 in guest memory while the processors run, and breakpoint registers of the host's where there is no
// memory yet or the user wants so; watchpoints are such registers. KVM hides these registers from the guest. #BP and #DB then
// leave KVM_RUN, and those that the guest has caused itself are handed back to it.
//
// KVM steps with the processor's trap flag. Two things follow, which are put right here:
//
// - The guest could see it: PUSHF stores it, SYSCALL copies it, an exception's frame has it. It is taken out of there.
// - It is lost where an instruction clears it, at SYSCALL or at an exception: nobody would come back behind the step. So for
//   its time INT3 is at whatever such an instruction can lead to, every exception's handler included.

import CKVM
import TrivisorVMM
import TrivisorX86

extension KVMProcessor {
  func follow(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    partition.planted.remove(debugger.places)
    let wasActive = debugger.isActive
    debugger = KVMDebugger()
    guard orders != .none else {
      if wasActive { try setGuestDebug(0) }
      return
    }
    var next = KVMDebugger()
    next.orders = orders
    let memory = try GuestView(self)
    for address in orders.hardwareBreakpoints.sorted() { next.slots.append(.instruction(address, isHardware: true)) }
    for point in orders.watchpoints { next.slots += KVMDebugger.pieces(point) }
    let isReal = !CR0(rawValue: memory.system.cr0).contains(.protectedMode)
    for address in orders.breakpoints.subtracting(orders.hardwareBreakpoints).sorted() {
      // A KVM that emulates real mode executes INT3 there and tells nobody.
      if isReal, next.slots.count < KVMDebugger.registerCount {
        next.slots.append(.instruction(address, isHardware: false))
      } else if let physical = memory.physical(address), !next.places.contains(physical),
        partition.planted.plant(physical)
      {
        next.places.insert(physical)
      } else {
        next.slots.append(.instruction(address, isHardware: false))
      }
    }
    guard next.slots.count <= KVMDebugger.registerCount else {
      partition.planted.remove(next.places)
      throw TechniqueFailure(
        call: "KVM_SET_GUEST_DEBUG",
        reason:
          "hardware breakpoints, watchpoints and breakpoints where there is no memory yet take \(next.slots.count)"
          + " breakpoint registers, and a processor has \(KVMDebugger.registerCount)")
    }
    debugger = next
  }

  func walk(_ linear: UInt64) throws(TechniqueFailure) -> PageWalk { try GuestView(self).walk(linear) }

  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? {
    partition.announced(index: 0).leaf(function, index: index) ?? CPUIDLeaf(function)
  }

  // MARK: Runs

  func runForDebugger() throws(TechniqueFailure) -> StopReason {
    defer { debugger.phase = .running }
    if debugger.orders.steps { return try step() }
    let view = try GuestView(self)
    if debugger.orders.allBreakpoints.contains(view.linearRIP) {
      let reason = try step()
      guard reason == .debugger(.step) else { return reason }
      // It has led to another one, or back here.
      let next = try GuestView(self).linearRIP
      if debugger.orders.allBreakpoints.contains(next) {
        return .debugger(.breakpoint(isHardware: !debugger.orders.breakpoints.contains(next)))
      }
    }
    debugger.phase = .running
    try arm(steps: false)
    return try runGuest()
  }

  private func setGuestDebug(_ control: Int32, _ registers: (addresses: [UInt64], control: UInt64)? = nil)
    throws(TechniqueFailure)
  {
    var request = kvm_guest_debug()
    request.control = UInt32(bitPattern: control)
    if let registers {
      let addresses = registers.addresses
      request.arch.debugreg = (addresses[0], addresses[1], addresses[2], addresses[3], 0, 0, 0, registers.control)
    }
    _ = try kvm("KVM_SET_GUEST_DEBUG", kvm_set_guest_debug(descriptor.raw, &request))
  }

  private func arm(steps: Bool) throws(TechniqueFailure) {
    var control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP
    let registers = debugger.registers(guest: try guestDebugRegisters(), withInstructions: !steps)
    if registers != nil { control |= KVM_GUESTDBG_USE_HW_BP }
    if steps { control |= KVM_GUESTDBG_SINGLESTEP }
    if debugger.holdsInterrupts, partition.holdsInterruptsBack { control |= KVM_GUESTDBG_BLOCKIRQ }
    try setGuestDebug(control, registers)
  }

  private func guestDebugRegisters() throws(TechniqueFailure) -> DebugRegisters {
    var raw = kvm_debugregs()
    _ = try kvm("KVM_GET_DEBUGREGS", kvm_get_debugregs(descriptor.raw, &raw))
    var registers = DebugRegisters()
    registers.addresses = [raw.db.0, raw.db.1, raw.db.2, raw.db.3]
    (registers.dr6, registers.dr7) = (raw.dr6, raw.dr7)
    return registers
  }

  // MARK: Steps

  private func step() throws(TechniqueFailure) -> StopReason {
    let before = try GuestView(self)
    var activity = kvm_mp_state()
    _ = try kvm("KVM_GET_MP_STATE", kvm_get_mp_state(descriptor.raw, &activity))
    let isHalted = activity.mp_state == UInt32(KVM_MP_STATE_HALTED) || (chips?.isHalted ?? false)
    let plan = StepPlan(before, isHalted: isHalted, modelSpecific: try state.modelSpecific(StepPlan.registers))
    var planted: [UInt64] = []
    for end in plan.ends {
      if let physical = before.physical(end), partition.planted.plant(physical) { planted.append(physical) }
    }
    debugger.stepEnds = plan.ends
    debugger.phase = .stepping(holdsInterrupts: !isHalted)
    let reason: StopReason
    do throws(TechniqueFailure) {
      try arm(steps: !isHalted)
      let own = debugger.orders.allBreakpoints.contains(before.linearRIP) ? before.physical(before.linearRIP) : nil
      reason = try partition.planted.withOriginal(own) { () throws(TechniqueFailure) in try runGuest() }
    } catch {
      partition.planted.remove(planted)
      throw error
    }
    partition.planted.remove(planted)
    try setGuestDebug(KVM_GUESTDBG_ENABLE)
    lastRead = nil
    let owesTrap = try plan.takeBack(on: self, isComplete: reason == .debugger(.step) || reason.isWatchpoint)
    if owesTrap { try deliverGuestTrap(.singleStep) }
    return reason
  }

  /// Lets the guest's #DB get to its handler's first instruction, so that a step ends where the guest goes on.
  private func deliverGuestTrap(_ bits: DR6) throws(TechniqueFailure) {
    try inject(bits)
    let view = try GuestView(self)
    guard let handler = view.handler(Int(ExceptionVector.debug.rawValue)), let physical = view.physical(handler),
      partition.planted.plant(physical)
    else { return }
    defer { partition.planted.remove(physical) }
    debugger.stepEnds = [handler]
    debugger.phase = .delivering
    try arm(steps: false)
    _ = try runGuest()
    try setGuestDebug(KVM_GUESTDBG_ENABLE)
  }

  // MARK: Exits

  /// #DB or #BP has left KVM_RUN.
  func handleDebugExit() -> StopReason? {
    let exit = shared.pointee.debug.arch
    do throws(TechniqueFailure) {
      if exit.exception == UInt32(ExceptionVector.breakpoint.rawValue) {
        return try handleBreakpoint(exit.pc)
      }
      return try handleDebugException(DR6(rawValue: exit.dr6))
    } catch {
      return .crashed(crashReport(error.description))
    }
  }

  /// A KVM that emulates guest kernel code does so with all instructions but INT3.
  /// - Returns: why the run ends, if that is what it has met.
  func handleRefusedInstruction() -> StopReason? {
    guard let view = try? GuestView(self), let physical = view.physical(view.linearRIP),
      partition.planted.contains(physical)
    else { return nil }
    if debugger.phase != .running, debugger.stepEnds.contains(view.linearRIP) { return .debugger(.step) }
    return debugger.orders.breakpoints.contains(view.linearRIP) ? .debugger(.breakpoint(isHardware: false)) : nil
  }

  private func handleBreakpoint(_ linear: UInt64) throws(TechniqueFailure) -> StopReason? {
    let view = try GuestView(self)
    if debugger.phase != .running, debugger.stepEnds.contains(linear) { return .debugger(.step) }
    if debugger.orders.breakpoints.contains(linear) { return .debugger(.breakpoint(isHardware: false)) }
    if let physical = view.physical(linear), partition.planted.contains(physical) {
      // Under another address or for another processor's step: the guest knows nothing of it, and goes on.
      return try passPlanted(physical)
    }
    // It was there for another processor's step, which is over: the guest's own instruction is there again.
    guard view.byte(linear) == PlantedBreakpoints.instruction else { return nil }
    var events = kvm_vcpu_events()
    _ = try kvm("KVM_GET_VCPU_EVENTS", kvm_get_vcpu_events(descriptor.raw, &events))
    events.exception.injected = 1
    events.exception.pending = 0
    events.exception.nr = ExceptionVector.breakpoint.rawValue
    events.exception.has_error_code = 0
    _ = try kvm("KVM_SET_VCPU_EVENTS", kvm_set_vcpu_events(descriptor.raw, &events))
    return nil
  }

  /// Executes the guest's instruction where INT3 is for somebody else.
  private func passPlanted(_ physical: UInt64) throws(TechniqueFailure) -> StopReason? {
    guard debugger.phase == .running else { return .debugger(.step) }
    let reason = try partition.planted.withOriginal(physical) { () throws(TechniqueFailure) in try step() }
    guard reason == .debugger(.step) else { return reason }
    debugger.phase = .running
    try arm(steps: false)
    return nil
  }

  private func handleDebugException(_ bits: DR6) throws(TechniqueFailure) -> StopReason? {
    var guestBits: DR6 = bits.intersection([.registerAccess, .taskSwitch])
    for (number, slot) in debugger.inForce.enumerated() where bits.rawValue >> UInt64(number) & 1 != 0 {
      switch slot {
      case .instruction(_, let isHardware): return .debugger(.breakpoint(isHardware: isHardware))
      case .data(let point, _, _): return .debugger(.watchpoint(point))
      case .guest(let own): guestBits.insert(DR6(rawValue: 1 << UInt64(own)))
      }
    }
    if case .stepping = debugger.phase, bits.contains(.singleStep) {
      if !guestBits.isEmpty { try inject(guestBits) }
      return .debugger(.step)
    }
    try inject(guestBits.union(bits.intersection(.singleStep)))
    return nil
  }

  /// #DB for the guest, with these bits in its DR6 (AMD64 APM vol. 2, 13.1.1.3); general detect goes off with it.
  private func inject(_ bits: DR6) throws(TechniqueFailure) {
    var registers = kvm_debugregs()
    _ = try kvm("KVM_GET_DEBUGREGS", kvm_get_debugregs(descriptor.raw, &registers))
    registers.dr6 = DR6(rawValue: registers.dr6).subtracting(.breakpoints).union(bits).rawValue
    registers.dr7 &= ~DR7.generalDetect.rawValue
    _ = try kvm("KVM_SET_DEBUGREGS", kvm_set_debugregs(descriptor.raw, &registers))
    var events = kvm_vcpu_events()
    _ = try kvm("KVM_GET_VCPU_EVENTS", kvm_get_vcpu_events(descriptor.raw, &events))
    events.exception.injected = 1
    events.exception.pending = 0
    events.exception.nr = ExceptionVector.debug.rawValue
    events.exception.has_error_code = 0
    _ = try kvm("KVM_SET_VCPU_EVENTS", kvm_set_vcpu_events(descriptor.raw, &events))
  }
}

extension StopReason {
  fileprivate var isWatchpoint: Bool {
    if case .debugger(.watchpoint) = self { true } else { false }
  }
}
