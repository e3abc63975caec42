// Interrupts on their way from the chips in software to the guest.
//
// `hasEvent` is the question between two instructions, wherever Swift gets to ask it: after a call-out, after a store to a
// device, and at the top of the run loop, which a kick from another thread leads to. If the answer is yes, the run loop
// takes the event. Behind STI and MOV SS it must wait for one instruction: that one is run by itself (`stepsOnce`).
//
// Time works by an alarm: a timer of the host that kicks the processor when the chips' next deadline has come. A processor
// that waits (HLT) sleeps until then by itself.

import TrivisorCWorldSwitch
import TrivisorDevices
import Glibc
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension RewritingProcessor {
  /// Whether the chips have something that the processor may take at this point, but for a shadow.
  var hasEvent: Bool {
    let pending = interrupts.pending
    if pending.isEmpty { return false }
    var wanted: ProcessorInterrupts.Pending = [.initialize, .startup, .deadline]
    if flags.contains(.interrupt) { wanted.insert(.interrupt) }
    if !pendingEvents.nonMaskableBlocked { wanted.insert(.nonMaskable) }
    return !pending.isDisjoint(with: wanted)
  }

  /// Whether translated code must be left at this point.
  var mustReturn: Bool { stop.isRequested || hasEvent }

  /// Takes what the chips have, before the next block.
  /// - Returns: why the machine ends, if it does.
  func takeEvents() -> StopReason? {
    if stepsOnce {
      stepsOnce = false
    }
    // Before the guest can learn of it by a timer's interrupt.
    if lostTime.isLong(now: monotonicNanoseconds()) { MonitorClock(context: self).tellOfLostTime() }
    interrupts.letTimePass()
    while hasEvent {
      if shadow != .none {
        stepsOnce = true
        break
      }
      let event = interrupts.takeEvent(
        acceptsInterrupts: flags.contains(.interrupt), acceptsNonMaskable: !pendingEvents.nonMaskableBlocked)
      guard let event else { break }
      if let reason = take(event) { return reason }
      if activity != .running { break }
    }
    alarm.set(interrupts.deadline, now: monotonicNanoseconds())
    return nil
  }

  private func take(_ event: ProcessorInterrupts.Event) -> StopReason? {
    switch event {
    case .interrupt(let vector): return deliverEvent(vector, isSoftware: false)
    case .nonMaskable:
      pendingEvents.nonMaskableBlocked = true
      return deliverEvent(ExceptionVector.nonMaskableInterrupt.rawValue, isSoftware: false)
    case .initialize: initialize()
    case .startup(let vector): begin(at: vector)
    }
    return nil
  }

  /// What a start-up message does (AMD64 APM vol. 2, 14.1.3 and 16.5).
  func begin(at vector: UInt8) {
    control.code = .real(UInt16(vector) << 8, code: true)
    rip = 0
    activity = .running
  }

  /// The state after INIT (AMD64 APM vol. 2, 14.1.3): vectors, MSRs and the time stamp stay as they are.
  private func initialize() {
    var registers = SystemRegisters()
    registers.cr0 = control.cr0.intersection([.cacheDisable, .notWriteThrough]).union(.extensionType).rawValue
    control.restore(registers, privilege: 0)
    debug = DebugRegisters()
    pendingEvents = PendingEvents()
    shadow = .none
    branchRecord = BranchRecord()
    for number in 0..<16 { block.general[number] = 0 }
    block.general[2] = 0x600
    rip = 0xfff0
    flags = .alwaysOne
    activity = interrupts.base & MSR.isBootstrapProcessor != 0 ? .running : .waitingForStartup
  }

  /// Sleeps until something wakes the processor.
  /// - Returns: `false` if that is a request to stop.
  func waitForEvent() -> Bool {
    let began = cws_timestamp()
    defer { ledger.asleep &+= cws_timestamp() &- began }
    alarm.clear()
    while true {
      interrupts.letTimePass()
      let hasOwnEvent =
        pendingEvents.exception != nil || pendingEvents.interrupt != nil
        || (pendingEvents.nonMaskablePending && !pendingEvents.nonMaskableBlocked)
      if hasEvent || hasOwnEvent {
        if activity == .halted { activity = .running }
        return true
      }
      cws_admit_signals(1)
      defer { cws_admit_signals(0) }
      let (deadline, lay) = (interrupts.deadline, monotonicNanoseconds())
      let awakening = stop.sleep(until: deadline)
      lostTime.slept(from: lay, to: monotonicNanoseconds(), deadline: deadline)
      if awakening == .request { return false }
    }
  }

  // MARK: Registers

  /// The local APIC's page, where the guest has put it.
  func isLocalPage(_ physical: UInt64) -> Bool { physical & ~4095 == mmu.localPage }

  /// APIC_BASE changed.
  func localPageChanged() { mmu.localPage = interrupts.page ?? .max }

  /// What `MachineState` says of the local APIC.
  func restoreLocal(base: UInt64, taskPriority: UInt64) {
    interrupts.restoreBase(base)
    localPageChanged()
    interrupts.restoreTaskPriority(UInt8(truncatingIfNeeded: taskPriority & 15))
  }
}
