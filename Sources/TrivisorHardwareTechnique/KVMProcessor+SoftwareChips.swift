// Interrupt chips in software under KVM: the machine has none in the kernel (no KVM_CREATE_IRQCHIP).
//
// Then KVM runs guest code and nothing else. Accesses to the local APIC's page leave as device memory; HLT leaves; CR8 and the
// APIC's base are in `kvm_run`; and an interrupt is handed in by KVM_INTERRUPT, for which the guest must be ready: if it is
// not, KVM is asked to leave as soon as it is (`request_interrupt_window`). It is what every hypervisor did before chips moved
// into the kernel, and what the rewriting technique does; so one set of chips can be watched under both.
//
// What KVM does not hand out are the MSRs of the APIC: no x2APIC, no TSC deadline.

import CKVM
import TrivisorDevices
import TrivisorVMM

/// One processor's side of the chips.
struct SoftwareChips {
  let interrupts: ProcessorInterrupts
  var alarm: ProcessorAlarm
  /// Where the local APIC's registers are; all ones if nowhere.
  var page: UInt64
  var base: UInt64
  /// HLT was the last instruction.
  var isHalted = false

  init(_ interrupts: ProcessorInterrupts, _ stop: KVMStopHandle) {
    self.interrupts = interrupts
    alarm = ProcessorAlarm { stop.kick() }
    base = interrupts.base
    page = interrupts.page ?? .max
    interrupts.connect { stop.kick() }
  }
}

extension KVMProcessor {
  private var interruptsAreOn: Bool { shared.pointee.if_flag != 0 }

  /// Before KVM_RUN: what is due happens, and what waits is handed in.
  /// - Returns: why the run ends, if it does.
  func serveChips() -> StopReason? {
    guard var chips else { return nil }
    defer { self.chips = chips }
    if chips.isHalted {
      if let reason = wait(&chips) { return reason }
      chips.isHalted = false
    }
    let interrupts = chips.interrupts
    interrupts.letTimePass()
    let pending = interrupts.pending
    shared.pointee.request_interrupt_window = 0
    if pending.contains(.initialize) {
      return .crashed(
        crashReport("INIT is sent to the only processor, which interrupt chips in software don't do under KVM"))
    }
    if pending.contains(.nonMaskable),
      interrupts.takeEvent(acceptsInterrupts: false, acceptsNonMaskable: true) == .nonMaskable
    {
      _ = kvm_nmi(descriptor.raw)
    }
    if pending.contains(.interrupt) {
      if shared.pointee.ready_for_interrupt_injection != 0, interruptsAreOn,
        case .interrupt(let vector)? = interrupts.takeEvent(acceptsInterrupts: true, acceptsNonMaskable: false)
      {
        var event = kvm_interrupt(irq: UInt32(vector))
        _ = kvm_interrupt(descriptor.raw, &event)
      }
      if interrupts.pending.contains(.interrupt) { shared.pointee.request_interrupt_window = 1 }
    }
    chips.alarm.set(interrupts.deadline, now: monotonicNanoseconds())
    shared.pointee.cr8 = UInt64(interrupts.taskPriority)
    return nil
  }

  /// After HLT, until there is something that ends it.
  private func wait(_ chips: inout SoftwareChips) -> StopReason? {
    chips.alarm.clear()
    while true {
      chips.interrupts.letTimePass()
      let pending = chips.interrupts.pending
      if !pending.isDisjoint(with: [.nonMaskable, .initialize]) { return nil }
      if interruptsAreOn, pending.contains(.interrupt) { return nil }
      if stop.isRequested {
        _ = stop.takeRequest()
        return .stopRequested
      }
      let (deadline, lay) = (chips.interrupts.deadline, monotonicNanoseconds())
      stop.sleep(until: deadline)
      lostTime.slept(from: lay, to: monotonicNanoseconds(), deadline: deadline)
    }
  }

  /// After KVM_RUN: what the guest has changed without leaving.
  func noteExit() {
    guard let chips else { return }
    if shared.pointee.cr8 != UInt64(chips.interrupts.taskPriority) {
      chips.interrupts.taskPriority = UInt8(truncatingIfNeeded: shared.pointee.cr8)
    }
    if shared.pointee.apic_base != chips.base {
      self.chips?.base = shared.pointee.apic_base
      _ = chips.interrupts.setBase(shared.pointee.apic_base)
      self.chips?.page = chips.interrupts.page ?? .max
    }
  }

  /// An access to the local APIC's page.
  func accessLocal(
    _ chips: SoftwareChips, _ address: GuestPhysicalAddress, _ length: Int, _ isWrite: Bool
  ) {
    let offset = address.rawValue & 4095
    withUnsafeMutableBytes(of: &shared.pointee.mmio.data) { data in
      // The registers are doublewords: other widths store nothing and read as the chips say, odd ones as 0.
      guard let width = AccessWidth(rawValue: length) else {
        if !isWrite { data.initializeMemory(as: UInt8.self, repeating: 0) }
        return
      }
      if isWrite {
        chips.interrupts.writePage(data.loadUnaligned(as: UInt64.self) & width.allOnes, offset, width: width)
      } else {
        data.storeBytes(of: chips.interrupts.readPage(offset, width: width), as: UInt64.self)
      }
    }
  }

  /// What `MachineState` says of the local APIC and of waiting, which KVM knows nothing of.
  func restoreChips(_ state: MachineState) {
    guard var chips else { return }
    chips.isHalted = state.activity == .halted
    chips.interrupts.restoreTaskPriority(UInt8(truncatingIfNeeded: state.system.cr8 & 15))
    chips.interrupts.restoreBase(state.system.apicBase)
    chips.base = chips.interrupts.base
    chips.page = chips.interrupts.page ?? .max
    self.chips = chips
  }
}
